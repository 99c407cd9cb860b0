"""The layers of a picture, filled up with lanes: the places where long arrows pass a layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from compose_vlp.picture.diagram import Arrow
from compose_vlp.picture.ordering import order


class Grid:
    """Layers of boxes and of lanes, the places where long arrows pass a layer."""

    def __init__(self, layer: Mapping[str, int], arrows: list[Arrow]) -> None:
        self.layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
        for name, number in layer.items():
            self.layers[number].append(name)
        self.lanes: dict[Arrow, list[str]] = {}
        self.below: dict[str, list[str]] = defaultdict(list)
        self.above: dict[str, list[str]] = defaultdict(list)
        shared: dict[tuple[str, int], str] = {}  # arrows of one value share their lanes
        for arrow in arrows:
            names = []
            for number in range(layer[arrow.source] + 1, layer[arrow.target]):
                lane = shared.setdefault((arrow.source, number), f"lane {len(shared)}")
                if lane not in self.layers[number]:
                    self.layers[number].append(lane)
                names.append(lane)
            self.lanes[arrow] = names
            chain = [arrow.source, *names, arrow.target]
            for upper, lower in pairwise(chain):
                if lower not in self.below[upper] or lower == arrow.target:
                    self.below[upper].append(lower)
                    self.above[lower].append(upper)
        self.names = [name for names in self.layers for name in names]
        self._boxes = set(layer)

    def ordered(self) -> list[list[str]]:
        self.layers = order(self.layers, self.above, self.below)
        return self.layers

    def links(self) -> dict[str, list[tuple[str, float]]]:
        weights: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for upper, lowers in self.below.items():
            for lower in lowers:
                straight = (upper not in self._boxes) + (lower not in self._boxes)
                alone = len(self.below[upper]) == 1 and len(self.above[lower]) == 1
                weight = (4.0 if alone else 1.0, 2.0, 8.0)[straight]
                weights[upper].append((lower, weight))
                weights[lower].append((upper, weight))
        return weights
