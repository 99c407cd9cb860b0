"""A tower's last layer at the positions that something reads.

All positions are keys and values of the last layer, and those that are read alone need queries, the output's map and
the FFN there. What reads a tower's CLS, or chosen words of it, says so; where anything reads more, nothing is changed.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.compiler.passes.order import in_order
from compose_vlp.graph.plan import Arg, Call, Constant, Plan, Ref
from compose_vlp.graph.types import SequenceType

Readers = dict[str, list[Call]]


def last_layer(plan: Plan, context: PassContext) -> Plan:
    """Say to each tower that takes `read` what is read of it, where that is not everything."""
    readers: Readers = defaultdict(list)
    for call in plan.calls:
        for name in {ref.call for ref in call.refs()}:
            readers[name].append(call)
    asked = {ref.call for ref in plan.results.values()}
    calls, notes = list(plan.calls), list[str]()
    for number, call in enumerate(plan.calls):
        kind = context.kind_of(call) if call.role == "component" else None
        if kind is None or not kind.traits.last_layer or not isinstance(call.type, SequenceType):
            continue
        reads = _reads(call, "", readers, asked)
        if not reads:
            continue
        named = dataclasses.replace(call, args=(*call.args, ("read", tuple(dict.fromkeys(reads)))))
        ordered = in_order([(call,) for call in (*calls[:number], named, *calls[number + 1 :])])
        if ordered is not None:  # else what is read is known only from the result
            calls[number] = named
            notes.append(f"{call.id} ({', '.join(_words(reads))})")
    ordered = in_order([(call,) for call in calls])
    assert ordered is not None, "each call alone has an order, and a call waits for what comes before it"
    return plan.replace(ordered, f"last layers at positions that are read: {', '.join(notes)}" if notes else None)


def _reads(call: Call, part: str, readers: Readers, asked: set[str]) -> list[Arg] | None:
    """Collect what is read of a result, or of a part of it; None where all of it is, or nothing."""
    if call.id in asked:
        return None
    reads: list[Arg] = []
    for reader in readers[call.id]:
        mine = _read(call, reader, part, readers, asked)
        if not mine:
            return None
        reads += mine
    return reads


def _read(call: Call, reader: Call, part: str, readers: Readers, asked: set[str]) -> Sequence[Arg] | None:
    kind = call.type
    assert isinstance(kind, SequenceType)
    if reader.role == "read" and reader.target == "cls":
        return [(Constant("cls"), Constant(part or kind.parts[0].name))]
    if reader.role == "read" and reader.target != "tokens":
        return _reads(reader, reader.target, readers, asked) if not part else None
    at = reader.arg("at")
    first = reader.args[0][1] if reader.args else None
    whole = isinstance(first, Ref) and first == Ref(call.id) and sum(ref.call == call.id for ref in reader.refs()) == 1
    if reader.role == "component" and isinstance(at, Ref) and whole:
        return [(Constant("at"), Constant(part), at)]
    return None


def _words(reads: Sequence[Arg]) -> list[str]:
    """Describe what is read, for people."""
    words = []
    for read in reads:
        assert isinstance(read, tuple)
        how, part = (name.value for name in read[:2] if isinstance(name, Constant))
        words.append(f"{part}.cls" if how == "cls" else f"chosen positions of {part or 'it'}")
    return list(dict.fromkeys(words))
