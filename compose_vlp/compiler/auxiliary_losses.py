"""Putting the losses that components have of their own into the plan of a stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from compose_vlp.graph.graph import fragment
from compose_vlp.graph.kinds import AuxiliaryLoss
from compose_vlp.graph.plan import Call, Constant, Plan, Ref
from compose_vlp.graph.types import EmbeddingType, ScalarType


def with_auxiliary(
    plan: Plan, losses: Mapping[str, tuple[str, AuxiliaryLoss]], trainable: Callable[[str], bool]
) -> Plan:
    """The plan with a call for each loss of a component that is trained and that what is wanted calls.

    A loss reads the terms of all these calls, but of none in a teacher's weights.
    """
    needed = {call.id for call in fragment(plan, plan.results.values())}
    having = {component for component, _ in losses.values() if trainable(component)}
    adding = [c for c in plan.calls if c.role == "component" and c.world is None and c.target in having]
    terms = {call.id: _terms(call) for call in adding}
    results, ends = dict(plan.results), []
    for name, (component, loss) in losses.items():
        read = tuple(Ref(terms[call.id].id) for call in adding if call.target == component and call.id in needed)
        if read:
            args = (("kind", Constant(loss.kind)), ("name", Constant(loss.name)), ("terms", read))
            ends.append(Call(f"losses.{name}", "auxiliary", component, args, ScalarType()))
            results[name] = Ref(ends[-1].id)
    calls = [kept for call in plan.calls for kept in ((call, terms[call.id]) if call.id in terms else (call,))]
    return dataclasses.replace(plan, calls=(*calls, *ends), results=results)


def _terms(call: Call) -> Call:
    args = (("x", Ref(call.id)),)
    return dataclasses.replace(call, id=f"{call.id}:terms", role="terms", args=args, type=EmbeddingType(call.type.rows))
