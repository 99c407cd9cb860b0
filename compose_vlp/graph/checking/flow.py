"""Where words reach what must not see them: leaks, and what generation may keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compose_vlp.graph.plan import Call, Ref
from compose_vlp.graph.types import Flow, LogitsType, Reads, SequenceType, ValueType

if TYPE_CHECKING:
    from compose_vlp.graph.expanding.calls import Calls
    from compose_vlp.graph.expanding.substitute import Substitution
    from compose_vlp.graph.language.names import Declared


def worst(value: ValueType, root: str) -> Flow | None:
    """The worst way in which a text reaches any part of a value; None where it does not."""
    all_reads: list[Reads] = [value.reads]
    if isinstance(value, SequenceType):
        all_reads += [part.reads for part in value.parts]
    flows = [reads[root] for reads in all_reads if root in reads]
    return max(flows, default=None)


def leaking_path(calls: Calls, ref: Ref, root: str, above: Flow) -> list[Call]:
    """The calls from where the text first comes in worse than `above` (or at all) down to a value, in plan order."""
    path: list[Call] = []
    current: Ref | None = ref
    while current is not None:
        call = calls.done[current.call]
        path.append(call)
        current = next((argument for argument in call.refs() if _is_worse(calls.type_of(argument), root, above)), None)
    return path[::-1]


def _is_worse(value: ValueType, root: str, above: Flow) -> bool:
    flow = worst(value, root)
    return flow is not None and flow > above


def explain_leak(substitution: Substitution, declared: Declared, ref: Ref, root: str, *, hidden: str = "") -> None:
    """Note that a loss reads its own target, with the way on which it does; `hidden` says it where words are hidden."""
    calls = substitution.calls
    path = leaking_path(calls, ref, root, Flow.PAST)
    first = path[0]
    if not substitution.problems.is_first(f"{root} leaks in {first.id}"):
        return
    value = calls.type_of(ref)
    text = value.text.root if isinstance(value, LogitsType) and value.text else root
    if hidden:
        first = _first_reader(calls, ref, root)
    span = first.span
    assert span is not None
    what = hidden or f"every position of `{text}` reaches the logits that must foretell it"
    message = f"{what}, first in `{_name(first)}` at {span}"
    way = " -> ".join(_name(call) for call in path)
    related = [(f"`{_name(first)}` lets it in here", span)]
    hints = [f"the way: {root} -> {way}"] if len(path) > 1 else []
    substitution.problems.add(message, declared.span, *hints, related=related)


def _first_reader(calls: Calls, ref: Ref, root: str) -> Call:
    """The first call that a text goes into, on its way to a value."""
    current = ref
    while True:
        call = calls.done[current.call]
        before = _reached(calls, call, root)
        if before is None or _reached(calls, calls.done[before.call], root) is None:
            return call
        current = before


def _reached(calls: Calls, call: Call, root: str) -> Ref | None:
    """An argument that a text reaches; what makes or hides the text has none."""
    return next((argument for argument in call.refs() if worst(calls.type_of(argument), root) is not None), None)


def _name(call: Call) -> str:
    """How messages call a call: by its component or function."""
    if call.role in ("read", "index"):
        return call.id
    return f"{call.world}.{call.target}" if call.world else call.target
