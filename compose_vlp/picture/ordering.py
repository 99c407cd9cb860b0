"""The order of boxes in each layer, so that few arrows cross: barycentres, then swaps of neighbours (Sugiyama 1981)."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

Layers = list[list[str]]
Neighbours = Mapping[str, Sequence[str]]

SWEEPS: Final = 12


def order(layers: Layers, above: Neighbours, below: Neighbours) -> Layers:
    """Layers in the best order found; `above` and `below` give each box's neighbours in the adjacent layers."""
    best, fewest = layers, crossings(layers, below)
    current = [list(layer) for layer in layers]
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        _sweep(current, above if downwards else below, downwards)
        _swap_neighbours(current, above, below)
        count = crossings(current, below)
        if count < fewest:
            best, fewest = [list(layer) for layer in current], count
        if not fewest:
            break
    return best


def crossings(layers: Layers, below: Neighbours) -> int:
    """Count the pairs of arrows between adjacent layers that cross."""
    return sum(_crossings_between(upper, _places(lower), below) for upper, lower in pairwise(layers))


def _places(layer: Sequence[str]) -> dict[str, int]:
    return {box: place for place, box in enumerate(layer)}


def _crossings_between(upper: Sequence[str], places: Mapping[str, int], below: Neighbours) -> int:
    seen: list[int] = []
    count = 0
    for box in upper:
        ends = sorted(places[child] for child in below.get(box, ()))
        count += sum(len(seen) - bisect_right(seen, end) for end in ends)
        for end in ends:
            insort(seen, end)
    return count


def _sweep(layers: Layers, neighbours: Neighbours, downwards: bool) -> None:
    """Sort each layer by the mean place of each box's neighbours in the layer before it."""
    numbers = range(1, len(layers)) if downwards else range(len(layers) - 2, -1, -1)
    for number in numbers:
        fixed = _places(layers[number - 1 if downwards else number + 1])
        own = _places(layers[number])
        size = max(len(own), 1)
        scale = max(len(fixed), 1) / size

        def mean(
            box: str, fixed: Mapping[str, int] = fixed, own: Mapping[str, int] = own, scale: float = scale
        ) -> float:
            places = [fixed[neighbour] for neighbour in neighbours.get(box, ())]
            return sum(places) / len(places) if places else own[box] * scale

        layers[number].sort(key=mean)


def _swap_neighbours(layers: Layers, above: Neighbours, below: Neighbours) -> None:
    """Swap adjacent boxes while that removes crossings."""
    for number, layer in enumerate(layers):
        upper = _places(layers[number - 1]) if number else {}
        lower = _places(layers[number + 1]) if number + 1 < len(layers) else {}
        improved = True
        while improved:
            improved = False
            for place in range(len(layer) - 1):
                left, right = layer[place], layer[place + 1]
                gain = _pair(left, right, above, upper) + _pair(left, right, below, lower)
                if gain > 0:
                    layer[place], layer[place + 1], improved = right, left, True


def _pair(left: str, right: str, neighbours: Neighbours, places: Mapping[str, int]) -> int:
    """Count the crossings of two adjacent boxes with each other, less those that they would have swapped."""
    lefts = [places[neighbour] for neighbour in neighbours.get(left, ()) if neighbour in places]
    rights = [places[neighbour] for neighbour in neighbours.get(right, ()) if neighbour in places]
    return sum((a > b) - (a < b) for a in lefts for b in rights)
