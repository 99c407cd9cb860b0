"""Vocabulary logits at labelled positions only.

A head with `selects` computes the positions that it is given; a loss with `selects` says which positions it needs: by
the mask that it reads, else by its labels, else by the text.
Where a loss is the only reader of such a head's logits, the two are put together.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Call, Plan, Ref
from compose_vlp.graph.types import IndexType, LabelsType, LogitsType, MaskType


def rows(plan: Plan, context: PassContext) -> Plan:
    """Insert a `select` call before each head whose logits only one position-choosing loss reads."""
    readers = Counter(ref.call for call in plan.calls for ref in call.refs())
    readers.update(ref.call for ref in plan.results.values())
    calls = plan.by_id()
    chosen: dict[str, Call] = {}  # head -> the select call that feeds it
    for loss in plan.calls:
        kind = context.kind_of(loss) if loss.role == "loss" else None
        if kind is None or not kind.traits.selects:
            continue
        for head in _heads(loss, calls, context):
            if readers[head.id] == 1:
                chosen[head.id] = _select(loss, head, calls)
    rewritten: list[Call] = []
    for call in plan.calls:
        if call.id in chosen:
            select = chosen[call.id]
            if all(done.id != select.id for done in rewritten):
                rewritten.append(select)
            call = dataclasses.replace(call, args=(*call.args, ("at", Ref(select.id))))
        rewritten.append(call)
    return plan.replace(rewritten, f"logits at labelled positions only: {', '.join(chosen)}" if chosen else None)


def _heads(loss: Call, calls: dict[str, Call], context: PassContext) -> list[Call]:
    heads = []
    for ref in loss.refs():
        call = calls[ref.call]
        kind = context.kind_of(call)
        if isinstance(call.type, LogitsType) and call.role == "component" and kind and kind.traits.selects:
            heads.append(call)
    return heads


def _select(loss: Call, head: Call, calls: dict[str, Call]) -> Call:
    types = [(ref, calls[ref.call].type.at(ref.path)) for ref in loss.refs()]
    own = [ref for kind in (MaskType, LabelsType) for ref, value in types if isinstance(value, kind)]
    source = own[0] if own else next(head.refs())
    name = f"{loss.id}_at" if own else f"{head.id}_at"
    return Call(name, "select", loss.target, (("x", source),), IndexType(), span=loss.span)
