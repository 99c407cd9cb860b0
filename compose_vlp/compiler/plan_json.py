"""A plan as JSON, for those who compare or keep it."""

from __future__ import annotations

from typing import Any

from compose_vlp.graph.plan import Arg, Call, Constant, ParamRef, Plan, Ref
from compose_vlp.graph.words import type_words


def plan_json(plan: Plan) -> dict[str, Any]:
    """Calls in their order, what was asked for, and what the passes noted."""
    return {
        "calls": [_call(call) for call in plan.calls],
        "wanted": {name: str(ref) for name, ref in plan.results.items()},
        "notes": list(plan.notes),
    }


def _call(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "role": call.role,
        "target": call.target,
        "args": {name: _arg(arg) for name, arg in call.args},
        "gives": type_words(call.type),
        "world": call.world,
        "at": str(call.span) if call.span else None,
        "chain": list(call.chain),
    }


def _arg(arg: Arg) -> Any:
    if isinstance(arg, Ref):
        return str(arg)
    if isinstance(arg, Constant):
        return {"constant": arg.value}
    if isinstance(arg, ParamRef):
        return f"${arg.name}"
    return [_arg(item) for item in arg]
