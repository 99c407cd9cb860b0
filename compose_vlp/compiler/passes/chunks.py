"""Scores over many classes in chunks of rows, made by the loss.

Where many rows are read, the scores of a vocabulary, their logarithms and their gradients are the largest tensors of a
step. A head with `chunks` leaves its last product to who reads it; a loss of cross-entropies takes it row by row.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Call, Constant, Plan


def chunks(plan: Plan, context: PassContext) -> Plan:
    """Leave the last product of heads of chosen positions to the losses, where these alone read them."""
    readers: dict[str, list[Call]] = defaultdict(list)
    for call in plan.calls:
        for ref in call.refs():
            readers[ref.call].append(call)
    asked = {ref.call for ref in plan.results.values()}

    def left(call: Call) -> bool:
        kind = context.kind_of(call) if call.role == "component" else None
        chosen = kind is not None and kind.traits.chunks and call.arg("at") is not None
        return chosen and call.id not in asked and all(reader.role == "loss" for reader in readers[call.id])

    names = [call.id for call in plan.calls if left(call)]
    calls = (
        dataclasses.replace(call, args=(*call.args, ("scored", Constant(False)))) if call.id in names else call
        for call in plan.calls
    )
    return plan.replace(calls, f"scores made by the loss, in chunks: {', '.join(names)}" if names else None)
