"""Which row of the picture a box stands in: below everything that it reads, and no arrow longer than need be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence


def assign_layers(ids: Sequence[str], arrows: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Longest-path layers (0 at the top), then boxes that feed more than they read move down to their readers.

    `ids` must be in an order in which each box comes after what it reads, as a plan's calls are.
    """
    parents: dict[str, list[str]] = defaultdict(list)
    children: dict[str, list[str]] = defaultdict(list)
    for source, target in arrows:
        parents[target].append(source)
        children[source].append(target)
    layer: dict[str, int] = {}
    for box in ids:
        layer[box] = max((layer[parent] + 1 for parent in parents[box]), default=0)
    _tighten(ids, parents, children, layer)
    return layer


def _tighten(
    ids: Sequence[str], parents: Mapping[str, list[str]], children: Mapping[str, list[str]], layer: dict[str, int]
) -> None:
    """Move boxes down where that shortens the arrows in sum; from the bottom up, until nothing moves."""
    moved = True
    while moved:
        moved = False
        for box in reversed(ids):
            if not children[box] or len(parents[box]) >= len(children[box]):
                continue
            lowest = min(layer[child] for child in children[box]) - 1
            if lowest > layer[box]:
                layer[box], moved = lowest, True
