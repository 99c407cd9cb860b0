"""Rows of other processes are asked for in one collective, where nothing that is gathered waits for another of it.

What came earlier waits for what comes last. What draws stays in its order, and so does what keeps a state, so that
with the pass and without it the same is drawn and kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from compose_vlp.compiler.passes.batch import WHOLE
from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.compiler.passes.order import Unit, in_order
from compose_vlp.components.functions.gathered import gathered
from compose_vlp.graph.plan import Call, Plan


def gather(plan: Plan, context: PassContext) -> Plan:
    """Let the calls of `gathered` that may wait for each other come one after the other, as one."""
    groups: list[list[str]] = []
    for call in plan.calls:
        kind = context.kind_of(call)
        if call.role != "function" or kind is None or kind.implementation is not gathered:
            continue
        for members in groups:
            wider = [[*group, call.id] if group is members else group for group in groups]
            if _ordered(plan, wider, context) is not None:
                members.append(call.id)
                break
        else:
            groups.append([call.id])
    groups = [members for members in groups if len(members) > 1]
    calls = _ordered(plan, groups, context) if groups else None
    if calls is None:
        return plan
    home = {name: members[0] for members in groups for name in members}
    read = plan.by_id()
    collectives = (", ".join(str(next(read[name].refs())) for name in members) for members in groups)
    return plan.replace(
        (dataclasses.replace(call, together=home.get(call.id, "")) for call in calls),
        "; ".join(f"one collective for {names}" for names in collectives),
    )


def _ordered(plan: Plan, groups: Sequence[Sequence[str]], context: PassContext) -> list[Call] | None:
    """The calls in an order in which those of each group stand together; None where there is none that keeps draws."""
    calls, group_of = plan.by_id(), {name: tuple(group) for group in groups for name in group}
    if any(ref.call in group for group in groups for name in group for ref in calls[name].refs()):
        return None
    units: dict[tuple[str, ...], Unit] = {}
    for call in plan.calls:
        names = group_of.get(call.id, (call.id,))
        units.setdefault(names, tuple(calls[name] for name in names))
    ordered = in_order(list(units.values()))
    if ordered is None or _noted(ordered, context) != _noted(plan.calls, context):
        return None
    return ordered


def _noted(calls: Sequence[Call], context: PassContext) -> tuple[list[str], list[str]]:
    """The calls whose order can be seen: those that draw, and those that keep a state."""
    draw, keep = [], []
    for call in calls:
        own = dataclasses.replace(call, id=call.id.removesuffix(WHOLE))
        kind = context.kind_of(own) if call.role == "component" else None
        if kind is not None and context.draws(own):
            draw.append(call.id)
        if kind is not None and kind.traits.state != "none":
            keep.append(call.id)
    return draw, keep
