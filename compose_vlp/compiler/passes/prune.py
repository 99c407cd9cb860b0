"""Drop what no active loss, asked-for output or effect reads."""

from __future__ import annotations

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Plan


def prune(plan: Plan, _: PassContext) -> Plan:
    """Keep the calls that the wanted values reach, and those that keep state in training (a queue's enqueue)."""
    calls = plan.by_id()
    todo = [ref.call for ref in plan.wanted.values()]
    kept: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in kept:
            kept.add(name)
            todo.extend(ref.call for ref in calls[name].refs())
    dropped = [call for call in plan.calls if call.id not in kept]
    counted = sum(call.role != "input" for call in dropped)
    return plan.replace(
        (c for c in plan.calls if c.id in kept), f"{counted} calls that nothing reads" if counted else None
    )
