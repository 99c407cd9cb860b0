"""What stands above a picture: title, facts, and a legend of what occurs in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from compose_vlp.pages import Markup, join, tag
from compose_vlp.picture.diagram import FAMILIES, Diagram
from compose_vlp.picture.words import width

TITLE_SIZE: Final = 19.0
LINE_SIZE: Final = 12.0
LEGEND_SIZE: Final = 11.0


class Header(NamedTuple):
    """A drawing with its size."""

    drawing: Markup
    width: float
    height: float


def header(diagram: Diagram) -> Header:
    """Title, facts and legend."""
    line = second_line(diagram)
    below = TITLE_SIZE + (32 if line else 10)
    drawing = join(
        [
            tag("text", diagram.title, y=TITLE_SIZE - 3, font_size=TITLE_SIZE, class_="ink title"),
            tag("text", line, y=TITLE_SIZE + 17, font_size=LINE_SIZE, class_="dim") if line else None,
            tag("g", legend(diagram), transform=f"translate(0 {below:.0f})"),
        ]
    )
    widths = (width(diagram.title, TITLE_SIZE, bold=True), width(line, LINE_SIZE), legend_width(diagram))
    return Header(drawing, max(widths), below + 42.0)


def second_line(diagram: Diagram) -> str:
    """Write what the blueprint calls itself, and the numbers."""
    facts = [f"{name} {value}" for name, value in diagram.facts]
    return "  ·  ".join([*([diagram.subtitle] if diagram.subtitle else []), *facts])


def legend(diagram: Diagram) -> Markup:
    """Draw a sign with its meaning for everything that occurs."""
    return join(_signs(diagram))


def legend_width(diagram: Diagram) -> float:
    """Return the width of the legend."""
    return sum(_room(words) for _, words in _entries(diagram))


def _room(words: str) -> float:
    return width(words, LEGEND_SIZE) + 38


def _signs(diagram: Diagram) -> Iterator[Markup]:
    x = 0.0
    for classes, words in _entries(diagram):
        if classes.startswith("arrow"):
            sign = tag("path", d="M0 5.5 H18", class_="wire")
        else:
            sign = tag("rect", x=0.5, y=0.0, width=17.0, height=11.0, rx=3, class_="body")
        label = tag("text", words, x=23.0, y=9.5, font_size=LEGEND_SIZE, class_="dim")
        yield tag("g", tag("g", sign, class_=classes), label, transform=f"translate({x:.1f} 0)")
        x += _room(words)


def _entries(diagram: Diagram) -> list[tuple[str, str]]:
    """Classes of the sign, and what it means."""
    families = {box.family for box in diagram.boxes}
    entries: list[tuple[str, str]] = [(name, words) for name, words in FAMILIES.items() if name in families]
    if any(box.world for box in diagram.boxes):
        entries.append(("tower teacher", "in a teacher's world"))
    if any(box.frozen for box in diagram.boxes):
        entries.append(("tower frozen", "frozen"))
    if any(box.pruned for box in diagram.boxes):
        entries.append(("tower pruned", "pruned: nothing reads it"))
    if any(arrow.detached for arrow in diagram.arrows):
        entries.append(("arrow detached", "passes no gradient"))
    return entries
