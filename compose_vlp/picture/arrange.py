"""From a diagram to places: sizes of boxes, layers, order, axes, and the ways of the arrows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from compose_vlp.picture.diagram import Arrow, Box, Diagram
from compose_vlp.picture.grid import Grid
from compose_vlp.picture.layers import assign_layers
from compose_vlp.picture.placing import Extent, place
from compose_vlp.picture.words import width

TITLE: Final = 13.0
NOTE: Final = 11.0
LABEL: Final = 11.0
PORT: Final = 9.5

PORT_ROW: Final = 13.0
NOTE_ROW: Final = 14.5
LABEL_ROW: Final = 14.0
GAP_ACROSS: Final = 26.0
GAP_DOWN: Final = 44.0
TIP: Final = 8.0  # an arrow ends upright for so long
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
    feeds: bool  # whether anything reads it


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
    known = diagram.by_id
    arrows = [a for a in dict.fromkeys(diagram.arrows) if a.source in known and a.target in known]
    incoming: dict[str, list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        incoming[arrow.target].append(arrow)
    sizes = {box.id: _size(box, incoming[box.id]) for box in diagram.boxes}
    layer = assign_layers([box.id for box in diagram.boxes], [(a.source, a.target) for a in arrows])
    grid = Grid(layer, arrows)
    extents = {name: sizes[name].extent if name in sizes else Extent(LANE, LANE) for name in grid.names}
    x = place(grid.ordered(), grid.links(), extents, GAP_ACROSS)
    rows = _rows(grid.layers, sizes)
    boxes = {}
    sources = {arrow.source for arrow in arrows}
    for box in diagram.boxes:
        size, row = sizes[box.id], rows[layer[box.id]]
        top = row.top + (row.tallest - size.height) / 2
        ports = _ports(size, x[box.id], incoming[box.id], grid, x)
        boxes[box.id] = Placed(
            box, x[box.id], top, size.width, size.height, row.end, ports, size.port_row, box.id in sources
        )
    routes = tuple(_route(arrow, boxes, grid, x, rows[layer[arrow.source] :]) for arrow in arrows)
    across = max((x[name] + extents[name].right for name in x), default=0.0)
    return Arranged(tuple(boxes.values()), routes, across, rows[-1].end if rows else 0.0)


def port_label(arrow: Arrow) -> str:
    """Write what stands where an arrow enters: the port, and the field of a record that the arrow carries."""
    return " ".join(word for word in (arrow.port, f".{arrow.field}" if arrow.field else "") if word)


def _size(box: Box, incoming: list[Arrow]) -> _Size:
    port_row = any(port_label(arrow) for arrow in incoming)
    title = width(
        f"{box.world}.{box.title}" if box.world and not box.small else box.title,
        TITLE if not box.small else NOTE + 1,
        bold=not box.small,
    )
    words = max([title, *(width(note, NOTE) for note in box.notes)])
    ports = sum(width(port_label(arrow), PORT) + 14 for arrow in incoming) if port_row else 0
    wide = max(words + (24 if box.small else 32), ports + 8, 40 if box.small else 96)
    high = (24 if box.small else 30) + NOTE_ROW * len(box.notes) + (PORT_ROW if port_row else 0)
    lines = [(box.name, True), (box.carries, False)]
    label = max((width(text, LABEL, bold=bold) for text, bold in lines if text), default=0.0)
    rows = sum(bool(text) for text, _ in lines)
    extent = Extent(wide / 2, max(wide / 2, label + 9 if label else 0))
    return _Size(wide, high, rows * LABEL_ROW + 6 if rows else 6, extent, port_row)


@dataclass(frozen=True)
class _Row:
    """A layer's top, its tallest box, and where its labels end and its arrows begin to turn."""

    top: float
    tallest: float
    end: float


def _rows(layers: list[list[str]], sizes: Mapping[str, _Size]) -> list[_Row]:
    rows, y = [], 0.0
    for names in layers:
        own = [sizes[name] for name in names if name in sizes]
        tallest = max((size.height for size in own), default=0.0)
        end = y + max(((tallest + size.height) / 2 + size.label for size in own), default=0.0)
        rows.append(_Row(y, tallest, end))
        y = end + GAP_DOWN
    return rows


def _ports(size: _Size, axis: float, incoming: list[Arrow], grid: Grid, x: Mapping[str, float]) -> tuple[Port, ...]:
    """Spread arrows along the top in the order in which they come in, so that they do not cross at the end."""
    if not size.port_row:
        return tuple(Port(arrow, 0.0, "") for arrow in incoming)
    arrows = sorted(incoming, key=lambda arrow: x[(grid.lanes[arrow] or [arrow.source])[-1]])
    rooms = [width(port_label(arrow), PORT) + 14 for arrow in arrows]
    spare = (size.width - 8 - sum(rooms)) / len(rooms)
    ports, at = [], axis - size.width / 2 + 4
    for arrow, room in zip(arrows, rooms, strict=True):
        ports.append(Port(arrow, at + (room + spare) / 2 - axis, port_label(arrow)))
        at += room + spare
    return tuple(ports)


def _route(arrow: Arrow, boxes: Mapping[str, Placed], grid: Grid, x: Mapping[str, float], rows: list[_Row]) -> Route:
    """From the source's trunk through its lanes to the port; `rows` begin with the source's."""
    source, target = boxes[arrow.source], boxes[arrow.target]
    lanes = grid.lanes[arrow]
    passed = [(x[lane], row.top, row.end) for lane, row in zip(lanes, rows[1:], strict=False)]
    offset = next(port.offset for port in target.ports if port.arrow == arrow)
    upright = min(rows[len(lanes) + 1].top, target.y - TIP)
    runs = ((source.x, source.trunk, source.trunk), *passed, (target.x + offset, upright, target.y))
    return Route(arrow, runs)
