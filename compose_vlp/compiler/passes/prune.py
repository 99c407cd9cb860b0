"""Drop what no active loss and no asked-for output reads.

An effect (rows that enter a queue, running statistics) is no reader of its own: it happens where something that is
wanted calls its component, and then needs all that this call reads. A queue whose losses a stage leaves out stays as it
is in that stage, and costs nothing there.
"""

from __future__ import annotations

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Plan


def prune(plan: Plan, _: PassContext) -> Plan:
    """Keep the calls that the wanted values reach."""
    calls = plan.by_id()
    todo = [ref.call for ref in plan.results.values()]
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
