"""One call for equal calls on equal inputs, unless they draw or keep state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Arg, Call, Plan, Ref


def dedupe(plan: Plan, context: PassContext) -> Plan:
    """Replace each call that repeats an earlier one by the earlier one's result."""
    seen: dict[tuple[object, ...], str] = {}
    instead: dict[str, str] = {}
    kept: list[Call] = []
    for call in plan.calls:
        now = dataclasses.replace(call, args=tuple((name, renamed(arg, instead)) for name, arg in call.args))
        key = (now.role, now.target, now.world, tuple(sorted((n, repr(a)) for n, a in now.args)))
        if key in seen and _pure(now, context):
            instead[now.id] = seen[key]
            continue
        seen.setdefault(key, now.id)
        kept.append(now)
    results = {name: Ref(instead.get(ref.call, ref.call), ref.path) for name, ref in plan.results.items()}
    note = f"{len(instead)} repeated calls" if instead else None
    return dataclasses.replace(plan.replace(kept, note), results=results)


def renamed(arg: Arg, instead: Mapping[str, str]) -> Arg:
    """The argument with other calls in the places of those named."""
    if isinstance(arg, Ref):
        return Ref(instead.get(arg.call, arg.call), arg.path)
    if isinstance(arg, tuple):
        return tuple(renamed(item, instead) for item in arg)
    return arg


def _pure(call: Call, context: PassContext) -> bool:
    kind = context.kind_of(call)
    if call.role == "loss":
        return False  # losses are counted and weighed by name
    return kind is None or (kind.traits.state == "none" and not context.draws(call))
