"""Ids of columns: what a loss or a miner is told of its rows' ids goes the way that the columns went.

A blueprint says `same: id`, the ids of the batch's own records. Columns may be of all processes (`gathered`), or a
queue's may follow them: then the loss needs theirs too, which the same gathering, or the same queue, can carry along.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Call, Plan, Ref, refs_in
from compose_vlp.graph.types import NumberType, RecordType, RowSpace, SimilarityType

PORT = "same"
CARRIED = "id"
"""The port, and the field of what it gives, by which a queue takes ids and gives them back."""


def carry_ids(plan: Plan, kind_of: Callable[[Call], Kind | None]) -> Plan:
    """The plan in which every `same` holds the ids of its columns; `gathered` and queues are asked where needed.

    `kind_of` gives the kind of a component's call. Ids that were written out (`same: keys.id`) stay as they are.
    """
    calls = plan.by_id()
    asked = _Asked()
    for call in plan.calls:
        same, columns = call.arg(PORT), _columns(call, calls)
        if not isinstance(same, Ref) or columns is None or not _is_batch(same, calls):
            continue
        queue = _queue(call, calls, kind_of) if columns.queue else None
        ids = same
        if columns.gathered:
            ids = asked.gathered.setdefault(same, Ref(_unused(f"{same.call}_gathered", calls)))
        if queue is not None:
            asked.queues[queue.id] = ids
            asked.moved[call.id] = Ref(queue.id, (CARRIED,))
        elif columns.gathered:
            asked.moved[call.id] = ids
    return plan.replace(asked.rewritten(plan)) if asked.moved else plan


def _unused(name: str, calls: dict[str, Call]) -> str:
    while name in calls:
        name += "_"
    return name


@dataclass
class _Asked:
    queues: dict[str, Ref] = field(default_factory=dict)  # queue's call -> ids of the batch
    gathered: dict[Ref, Ref] = field(default_factory=dict)
    moved: dict[str, Ref] = field(default_factory=dict)  # call with `same` -> ids of its columns

    def rewritten(self, plan: Plan) -> Iterator[Call]:
        """Inputs first, since a queue may now read one that was asked for after it."""
        inputs = [call for call in plan.calls if call.role == "input"]
        yield from inputs
        calls = plan.by_id()
        for same, ref in self.gathered.items():
            ids = calls[same.call]
            kind = dataclasses.replace(ids.type, rows=dataclasses.replace(ids.type.rows, gathered=True))
            yield Call(ref.call, "function", "gathered", (("x", same),), kind, span=ids.span)
        for call in plan.calls:
            if call.id in self.queues:
                yield _with_ids(call, self.queues[call.id])
            elif call.id in self.moved:
                args = tuple((name, self.moved[call.id] if name == PORT else arg) for name, arg in call.args)
                yield dataclasses.replace(call, args=args)
            elif call.role != "input":
                yield call


def _with_ids(queue: Call, ids: Ref) -> Call:
    if not isinstance(queue.type, RecordType) or queue.arg(CARRIED) is not None:
        return queue
    rows = next(iter(queue.type.fields.values())).rows
    kind = dataclasses.replace(queue.type, fields={**queue.type.fields, CARRIED: NumberType(rows)})
    return dataclasses.replace(queue, args=(*queue.args, (CARRIED, ids)), type=kind)


def _columns(call: Call, calls: dict[str, Call]) -> RowSpace | None:
    """The columns of the similarities that a call reads."""
    for ref in call.refs():
        kind = calls[ref.call].type
        if isinstance(kind, SimilarityType):
            return kind.columns
    return None


def _is_batch(same: Ref, calls: dict[str, Call]) -> bool:
    """An input as it is: of this process's batch."""
    return calls[same.call].role == "input"


def _queue(call: Call, calls: dict[str, Call], kind_of: Callable[[Call], Kind | None]) -> Call | None:
    """The queue that the columns of a call come from."""
    ahead = [ref for name, arg in call.args if name != PORT for ref in refs_in(arg)]
    seen: set[str] = set()
    while ahead:
        current = calls[ahead.pop(0).call]
        if current.id in seen:
            continue
        seen.add(current.id)
        kind = kind_of(current) if current.role == "component" else None
        if kind is not None and kind.traits.state == "kept":
            return current
        ahead += current.refs()
    return None
