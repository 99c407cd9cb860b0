"""Row i belongs to row i: what has been moved by an index must not meet its own input unmoved."""

from __future__ import annotations

from collections.abc import Mapping

from compose_vlp.graph.expanding.computing import Computing
from compose_vlp.graph.language.contexts import Put
from compose_vlp.graph.language.names import Callee, Key
from compose_vlp.graph.plan import Arg, Ref, refs_in


def check_alignment(
    substitution: Computing, callee: Callee, world: str | None, env: Mapping[Key, Put], puts: Mapping[Key, Put]
) -> bool:
    """Check that no input of what is put in, once moved by a row index, is reached by another road as well.

    Otherwise a hybrid that adds a second image tower leaves it on the right picture while the first gets the wrong one.
    """
    met = substitution.reads.of(callee.name, world, frozenset(env), aligned=True)
    used = {key: put for key, put in env.items() if key in met}
    for key, put in puts.items():
        moved = _inputs(substitution, put.arg, moved=True)
        # One picture in two sizes is two inputs of one field: moving only one of them mismatches rows as well.
        same = {name for name in substitution.names.document.inputs.names if _record_field(substitution, name) in
                {_record_field(substitution, origin) for origin in moved}}  # fmt: skip
        roads = {read.name for read in met if read.world is None and read.name in same and read not in used}
        for other_key, other in used.items():
            # Where another replacement moved an input as well, it is taken for the other half of the pair.
            if other_key != key:
                roads |= (_inputs(substitution, other.arg) - _inputs(substitution, other.arg, moved=True)) & same
        if roads:
            _explain(substitution, callee, put, sorted(roads), met, set(used))
            return False
    return True


def _inputs(substitution: Computing, arg: Arg, *, moved: bool = False) -> frozenset[str]:
    inputs: frozenset[str] = frozenset()
    for ref in refs_in(arg):
        kind = substitution.calls.type_of(ref)
        inputs |= kind.moved if moved else kind.origins
    return inputs


def _record_field(substitution: Computing, name: str) -> tuple[str, str]:
    """Give the field of a record that an input shows: two inputs of one field are two views of the same thing."""
    spec = substitution.calls.inputs.get(name)
    if spec is None:
        return ("", name)
    return (spec.source, spec.field or name)


def _explain(
    substitution: Computing, callee: Callee, put: Put, roads: list[str], met: frozenset[Key], used: set[Key]
) -> None:
    message = (
        f"`{put.text}` picks other rows, and `{callee.name}` reaches `{roads[0]}` by another road, on its own rows"
    )
    index = put.text[put.text.rindex("[") :] if "[" in put.text else "[...]"
    halves = _halves(substitution, roads, met, used)
    offered = ", ".join(f"{name}={name}{index}" for name in halves)
    substitution.problems.add(message, put.span, f"put in the other half too: `{offered}`")


def _halves(substitution: Computing, roads: list[str], met: frozenset[Key], used: set[Key]) -> list[str]:
    """The entries on the other roads that stand on these inputs alone, those that no other such entry reads."""
    halves: dict[Key, frozenset[Key]] = {}
    for key in met - used:
        if key.name in substitution.names.document.inputs:
            continue
        value = substitution.entry(key.name, key.world)
        origins = _inputs(substitution, value) if value is not None else frozenset()
        if isinstance(value, Ref) and origins and origins <= set(roads):
            halves[key] = substitution.reads.of(key.name, key.world)
    # Of nested entries only the outermost is offered: with it replaced, the inner ones are read no more.
    outer = [key for key in halves if not any(key in inner for other, inner in halves.items() if other != key)]
    return sorted(str(key) for key in outer) or roads
