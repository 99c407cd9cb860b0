"""An order for calls that were moved: each after those that it reads, and otherwise as they stood."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence

from compose_vlp.graph.plan import Call

Unit = tuple[Call, ...]
"""Calls that stay together, one after the other."""


def in_order(units: Sequence[Unit]) -> list[Call] | None:
    """The calls of all units, of those that may come next always the first; None where units wait for each other."""
    home = {call.id: number for number, unit in enumerate(units) for call in unit}
    waits = [{home[ref.call] for call in unit for ref in call.refs()} - {n} for n, unit in enumerate(units)]
    readers = defaultdict(list)
    for number, others in enumerate(waits):
        for other in others:
            readers[other].append(number)
    ready = [number for number, others in enumerate(waits) if not others]
    ordered: list[Call] = []
    while ready:
        number = heapq.heappop(ready)
        ordered += units[number]
        for reader in readers[number]:
            waits[reader].discard(number)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    return ordered if len(ordered) == sum(map(len, units)) else None
