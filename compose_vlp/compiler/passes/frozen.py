"""No gradient where nothing trainable is upstream."""

from __future__ import annotations

import dataclasses

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Plan


def frozen(plan: Plan, context: PassContext) -> Plan:
    """Mark the calls that need no gradient: neither their own parameters nor those before them are trained."""
    trained: set[str] = set()
    for call in plan.calls:
        if any(ref.call in trained for ref in call.refs()) or (call.role == "component" and context.trainable(call)):
            trained.add(call.id)
    marked = [c for c in plan.calls if c.id not in trained and c.role == "component"]
    calls = (
        dataclasses.replace(c, no_grad=c.id not in trained and c.role not in ("input", "loss")) for c in plan.calls
    )
    return plan.replace(calls, f"without gradients: {', '.join(c.id for c in marked)}" if marked else None)
