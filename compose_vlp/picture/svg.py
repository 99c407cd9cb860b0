"""A diagram as SVG: one file that needs nothing else, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from compose_vlp.pages import Markup, join, tag
from compose_vlp.picture import arrange as a
from compose_vlp.picture.arrange import Placed, Route, arrange
from compose_vlp.picture.colours import css
from compose_vlp.picture.diagram import Diagram
from compose_vlp.picture.header import Header, header

MARGIN: Final = 28.0

STYLE: Final = (
    'text{font-family:Inter,"Segoe UI",system-ui,-apple-system,Roboto,"Helvetica Neue",Arial,sans-serif}'
    ".body{stroke-width:1.3}.small .body{stroke-width:1}.wire{fill:none;stroke-width:1.4}"
    ".title{font-weight:600}.teacher .body{stroke-width:1.6;stroke-dasharray:5 3}"
    ".detached .wire{stroke-dasharray:2 4}.frozen .body{fill-opacity:.45}.pruned{opacity:.32}"
)


def svg(diagram: Diagram, *, headed: bool = True) -> str:
    """Draw the picture. `headed=False` leaves title and legend to the page around it.

    The document is static; the page of `picture.page` finds boxes by `data-box` and arrows by `data-from`, `data-to`.
    """
    placed = arrange(diagram)
    head = header(diagram) if headed else Header(Markup(), 0.0, 0.0)
    across = max(placed.width, head.width) + 2 * MARGIN
    down = placed.height + head.height + 2 * MARGIN
    drawing = tag(
        "g",
        tag("g", *(_arrow(route, diagram) for route in placed.routes), class_="arrows"),
        tag("g", *(_box(box) for box in placed.boxes), class_="boxes"),
        transform=f"translate({(across - placed.width) / 2:.1f} {MARGIN + head.height:.1f})",
    )
    return tag(
        "svg",
        tag("title", diagram.title) if headed else None,
        tag("style", Markup(STYLE + css())),
        _markers(),
        tag("rect", class_="ground", width=across, height=down),
        tag("g", head.drawing, transform=f"translate({MARGIN:.0f} {MARGIN:.0f})") if headed else None,
        drawing,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {across:.1f} {down:.1f}",
        width=across,
        height=down,
        role="img",
        aria_label=f"the graph of {diagram.title}",
    )


def _markers() -> Markup:
    path = tag("path", d="M0 0 L8 4 L0 8 Z", class_="tip")
    return tag(
        "defs",
        tag("marker", path, id="tip", viewBox="0 0 8 8", refX=7, refY=4, markerWidth=7, markerHeight=7, orient="auto"),
    )


def text(words: object, x: float, y: float, size: float, classes: str = "ink", anchor: str | None = None) -> Markup:
    """One line of text whose baseline begins (or has its middle, or ends) at a point."""
    return tag("text", words, x=x, y=y, font_size=size, class_=classes, text_anchor=anchor)


# --- arrows -----------------------------------------------------------------------------------------------------


def _arrow(route: Route, diagram: Diagram) -> Markup:
    arrow = route.arrow
    dimmed = diagram.by_id[arrow.source].pruned or diagram.by_id[arrow.target].pruned
    classes = " ".join(name for name, on in (("arrow", True), ("detached", arrow.detached), ("pruned", dimmed)) if on)
    path = tag("path", d=_path(route), class_="wire", marker_end="url(#tip)")
    return tag("g", path, class_=classes, data_from=arrow.source, data_to=arrow.target)


def _path(route: Route) -> str:
    (x, _, y), *rest = route.runs
    words = [f"M{x:.1f} {y:.1f}"]
    for next_x, top, end in rest:
        bend = (top - y) / 2
        if abs(next_x - x) < 0.5:
            words.append(f"L{next_x:.1f} {top:.1f}")
        else:
            words.append(f"C{x:.1f} {y + bend:.1f} {next_x:.1f} {top - bend:.1f} {next_x:.1f} {top:.1f}")
        words.append(f"V{end:.1f}")
        x, y = next_x, end
    return " ".join(words)


# --- boxes ------------------------------------------------------------------------------------------------------


def _box(placed: Placed) -> Markup:
    box = placed.box
    flags = {"small": box.small, "teacher": bool(box.world), "frozen": box.frozen, "pruned": box.pruned}
    classes = " ".join(["box", box.family, *(name for name, on in flags.items() if on)])
    parts = [*_trunk(placed), _body(placed), *_bar(placed), *_words(placed), *_label(placed)]
    return tag(
        "g",
        tag("title", ", ".join([box.title, *box.notes, box.carries])),
        *parts,
        class_=classes,
        transform=f"translate({placed.x:.1f} {placed.y:.1f})",
        data_box=box.id,
    )


def _body(placed: Placed) -> Markup:
    wide, high = placed.width, placed.height
    if placed.box.family == "output":
        side, shoulder = wide / 2, high - 9
        outline = f"M{-side:.1f} 0 H{side:.1f} V{shoulder:.1f} L0 {high + 3:.1f} L{-side:.1f} {shoulder:.1f} Z"
        return tag("path", d=outline, class_="body", stroke_linejoin="round")
    round_ = high / 2 if placed.box.family == "input" or (placed.box.small and not placed.port_row) else 7.0
    return tag("rect", x=-wide / 2, y=0.0, width=wide, height=high, rx=min(round_, 22.0), class_="body")


def _bar(placed: Placed) -> Iterator[Markup]:
    """Show how much of the model it is: a bar along the bottom, as long as its share of the parameters."""
    if placed.box.share > 0.005:
        room = placed.width - 16
        yield tag(
            "rect",
            x=-room / 2,
            y=placed.height - 5.5,
            width=max(room * placed.box.share, 2.0),
            height=2.5,
            rx=1.2,
            class_="bar",
        )


def _words(placed: Placed) -> Iterator[Markup]:
    box = placed.box
    y = 0.0
    if placed.port_row:
        for port in placed.ports:
            yield text(port.label, port.offset, 10.5, a.PORT, "dim", "middle")
        y = a.PORT_ROW
    size = a.NOTE + 1 if box.small else a.TITLE
    baseline = y + (16.0 if box.small else 19.5)
    world = tag("tspan", f"{box.world}.", class_="world") if box.world and not box.small else None
    title = join([world, box.title])
    yield text(title, 0.0, baseline, size, "ink" if box.small else "ink title", "middle")
    for row, note in enumerate(box.notes, start=1):
        yield text(note, 0.0, baseline + row * a.NOTE_ROW, a.NOTE, "dim", "middle")


def _trunk(placed: Placed) -> Iterator[Markup]:
    """From the box to where its arrows part; only where there are any (a page hides nothing of it)."""
    if placed.feeds:
        yield tag("path", d=f"M0 {placed.height:.1f} V{placed.trunk - placed.y:.1f}", class_="wire")


def _label(placed: Placed) -> Iterator[Markup]:
    y = placed.height + 12.5
    if placed.box.name:
        yield text(placed.box.name, 7.0, y, a.LABEL, "ink title")
        y += a.LABEL_ROW - 1
    if placed.box.carries:
        yield text(placed.box.carries, 7.0, y, a.LABEL - 0.5, "dim")
