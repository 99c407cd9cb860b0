"""A diagram as a page that answers questions: what a box is, what it costs, what it reads and who reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compose_vlp.pages import Markup, document, join, tag, theme_button
from compose_vlp.picture.diagram import Diagram
from compose_vlp.picture.header import legend, legend_width
from compose_vlp.picture.svg import svg

FOLDER = Path(__file__).parent
ADDRESSES = ("http://", "https://")


def page(diagram: Diagram) -> str:
    """Write the picture in one HTML file that asks for nothing from anywhere."""
    body = (
        tag("header", _title(diagram), _facts(diagram), _buttons(), class_="top"),
        tag("div", _legend(diagram), class_="legend"),
        tag(
            "main",
            tag("div", Markup(svg(diagram, headed=False)), id="canvas", tabindex=0, aria_label="graph"),
            tag("aside", id="panel", aria_live="polite"),
        ),
        tag("script", Markup(_data(diagram)), type="application/json", id="data"),
    )
    return document(f"{diagram.title} · graph", *body, style=_file("page.css"), script=_file("page.js"))


def _title(diagram: Diagram) -> Markup:
    link = tag("a", "paper", href=diagram.paper, rel="noreferrer") if diagram.paper.startswith(ADDRESSES) else None
    line = join([diagram.subtitle, " " if diagram.subtitle and link else None, link])
    return tag("div", tag("h1", diagram.title), tag("div", line, class_="dim"))


def _facts(diagram: Diagram) -> Markup:
    facts = (tag("div", tag("dt", name), tag("dd", value)) for name, value in diagram.facts)
    return tag("dl", *facts, class_="facts")


def _buttons() -> Markup:
    zooms = (("−", "out", "smaller"), ("+", "in", "larger"), ("fit", "fit", "fit to the window"))
    buttons = (tag("button", sign, type="button", data_zoom=what, title=words) for sign, what, words in zooms)
    return tag("div", *buttons, theme_button(), class_="buttons")


def _legend(diagram: Diagram) -> Markup:
    wide = legend_width(diagram)
    return tag("svg", legend(diagram), width=wide, height=14, viewBox=f"0 -1 {wide:.0f} 14", aria_hidden="true")


def _data(diagram: Diagram) -> str:
    """Write what the script needs, as JSON that cannot end its element early."""
    boxes: dict[str, Any] = {
        box.id: {
            "family": box.family,
            "world": box.world,
            "title": box.title,
            "notes": box.notes,
            "name": box.name,
            "carries": box.carries,
            "twin": box.twin,
            "share": box.share,
            "frozen": box.frozen,
            "pruned": box.pruned,
            "details": box.details,
        }
        for box in diagram.boxes
    }
    arrows = [(a.source, a.target, a.port, a.field) for a in diagram.arrows]
    text = json.dumps({"boxes": boxes, "arrows": arrows})
    return text.replace("<", r"\u003c")


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
