"""From a diagram to places: sizes of boxes, layers, order, axes, and the ways of the arrows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from compose_vlp.compiler.picture.diagram import Arrow, Box, Diagram
from compose_vlp.compiler.picture.layers import assign_layers
from compose_vlp.compiler.picture.ordering import order
from compose_vlp.compiler.picture.placing import Extent, place
from compose_vlp.compiler.picture.words import width

TITLE: Final = 13.0
NOTE: Final = 11.0
LABEL: Final = 11.0
PORT: Final = 9.5

PORT_ROW: Final = 13.0
NOTE_ROW: Final = 14.5
LABEL_ROW: Final = 14.0
GAP_ACROSS: Final = 26.0
GAP_DOWN: Final = 44.0
LANE: Final = 7.0  # half the room of an arrow that passes a layer


@dataclass(frozen=True)
class Port:
    """Where an arrow enters a box: offset from its axis, and what stands there."""

    arrow: Arrow
    offset: float
    label: str


@dataclass(frozen=True)
class Placed:
    """A box with its place: `x` of its axis, `y` of its top; `trunk` is where its arrows part, below its label."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    trunk: float
    ports: tuple[Port, ...]
    port_row: bool


@dataclass(frozen=True)
class Route:
    """An arrow's way: vertical runs (x, from y, to y), to be joined by curves."""

    arrow: Arrow
    runs: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Arranged:
    """Everything with its place, in a frame that begins at (0, 0)."""

    boxes: tuple[Placed, ...]
    routes: tuple[Route, ...]
    width: float
    height: float


@dataclass(frozen=True)
class _Size:
    width: float
    height: float
    label: float  # height of the label under the box
    extent: Extent
    port_row: bool


def arrange(diagram: Diagram) -> Arranged:
    """Lay a diagram out from top to bottom."""
    arrows = [a for a in diagram.arrows if a.source in diagram.by_id and a.target in diagram.by_id]
    incoming: dict[str, list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        incoming[arrow.target].append(arrow)
    sizes = {box.id: _size(box, incoming[box.id]) for box in diagram.boxes}
    layer = assign_layers([box.id for box in diagram.boxes], [(a.source, a.target) for a in arrows])
    grid = _Grid(layer, arrows)
    extents = {name: sizes[name].extent if name in sizes else Extent(LANE, LANE) for name in grid.names}
    x = place(grid.ordered(), grid.links(), extents, GAP_ACROSS)
    tops, bands, ends = _rows(grid.layers, sizes)
    boxes = tuple(_placed(box, sizes[box.id], x, incoming, grid, tops, bands, layer) for box in diagram.boxes)
    by_id = {one.box.id: one for one in boxes}
    routes = tuple(_route(arrow, by_id, grid.lanes[arrow], x, tops, bands) for arrow in arrows)
    across = max((x[name] + extents[name].right for name in x), default=0.0)
    return Arranged(boxes, routes, across, ends)


def port_label(arrow: Arrow) -> str:
    """What stands where an arrow enters: the port, and the field of a record that the arrow carries."""
    return f"{arrow.port} .{arrow.field}" if arrow.field else arrow.port


def _size(box: Box, incoming: list[Arrow]) -> _Size:
    port_row = len(incoming) > 1 or any(arrow.field for arrow in incoming)
    title = width(box.title, TITLE if not box.small else NOTE + 1, bold=not box.small)
    words = max([title, *(width(note, NOTE) for note in box.notes)])
    ports = sum(width(port_label(arrow), PORT) + 14 for arrow in incoming) if port_row else 0
    wide = max(words + (24 if box.small else 32), ports + 8, 40 if box.small else 96)
    high = (24 if box.small else 30) + NOTE_ROW * len(box.notes) + (PORT_ROW if port_row else 0)
    lines = [(box.name, True), (box.carries, False)]
    label = max((width(text, LABEL, bold=bold) for text, bold in lines if text), default=0.0)
    rows = sum(bool(text) for text, _ in lines)
    extent = Extent(wide / 2, max(wide / 2, label + 9 if label else 0))
    return _Size(wide, high, rows * LABEL_ROW + 6 if rows else 6, extent, port_row)


class _Grid:
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
            for upper, lower in zip(chain, chain[1:], strict=False):
                if lower not in self.below[upper] or lower == arrow.target:
                    self.below[upper].append(lower)
                    self.above[lower].append(upper)
        self.names = [name for names in self.layers for name in names]
        self._boxes = set(layer)

    def ordered(self) -> list[list[str]]:
        self.layers = order(self.layers, self.above, self.below)
        return self.layers

    def links(self) -> dict[str, list[tuple[str, float]]]:
        found: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for upper, lowers in self.below.items():
            for lower in lowers:
                straight = (upper not in self._boxes) + (lower not in self._boxes)
                weight = (1.0, 2.0, 8.0)[straight]
                found[upper].append((lower, weight))
                found[lower].append((upper, weight))
        return found


def _rows(layers: list[list[str]], sizes: Mapping[str, _Size]) -> tuple[list[float], list[float], float]:
    """For each layer the y of its top, and of the end of its labels; and the height of all."""
    tops, bands, y = [], [], 0.0
    for names in layers:
        own = [sizes[name] for name in names if name in sizes]
        tops.append(y)
        tallest = max((size.height for size in own), default=0.0)
        bands.append(y + max(((tallest + size.height) / 2 + size.label for size in own), default=0.0))
        y = bands[-1] + GAP_DOWN
    return tops, bands, y - GAP_DOWN


def _placed(
    box: Box,
    size: _Size,
    x: Mapping[str, float],
    incoming: Mapping[str, list[Arrow]],
    grid: _Grid,
    tops: list[float],
    bands: list[float],
    layer: Mapping[str, int],
) -> Placed:
    number = layer[box.id]
    tallest = max((s for s in (size.height,)), default=0.0)
    del tallest
    axis = x[box.id]
    ports = _ports(box, size, axis, incoming[box.id], grid, x)
    return Placed(box, axis, tops[number], size.width, size.height, bands[number], ports, size.port_row)


def _ports(
    box: Box, size: _Size, axis: float, incoming: list[Arrow], grid: _Grid, x: Mapping[str, float]
) -> tuple[Port, ...]:
    """Spread arrows along the top in the order in which they come in, so that they do not cross at the end."""

    def comes_from(arrow: Arrow) -> float:
        return x[(grid.lanes[arrow] or [arrow.source])[-1]]

    if not size.port_row:
        return tuple(Port(arrow, 0.0, "") for arrow in incoming)
    arrows = sorted(incoming, key=comes_from)
    rooms = [width(port_label(arrow), PORT) + 14 for arrow in arrows]
    spare = (size.width - 8 - sum(rooms)) / len(rooms)
    found, at = [], axis - size.width / 2 + 4
    for arrow, room in zip(arrows, rooms, strict=True):
        found.append(Port(arrow, at + (room + spare) / 2 - axis, port_label(arrow)))
        at += room + spare
    return tuple(found)


def _route(
    arrow: Arrow,
    boxes: Mapping[str, Placed],
    lanes: list[str],
    x: Mapping[str, float],
    tops: list[float],
    bands: list[float],
) -> Route:
    source, target = boxes[arrow.source], boxes[arrow.target]
    first = bands.index(source.trunk)
    runs = [(source.x, source.trunk, source.trunk)]
    runs += [(x[lane], tops[first + n], bands[first + n]) for n, lane in enumerate(lanes, start=1)]
    offset = next(port.offset for port in target.ports if port.arrow is arrow)
    end = target.x + offset
    last = tops[first + len(lanes) + 1]
    return Route(arrow, (*runs, (end, last, target.y)))
