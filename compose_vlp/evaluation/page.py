"""A page of results: numbers before and after, pictures with what was said of them, curves. One file, no requests."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from compose_vlp.data.pictures import open_picture
from compose_vlp.data.pixels import to_rgb
from compose_vlp.pages import Markup, document, join, shared, tag, theme_button

PICTURE_SIDE = 320
"""Pictures are made no larger than this, in pixels."""


@dataclass(frozen=True)
class Tile:
    """One number. `before` is what it was, `note` what to hold it against (chance, a paper's figure)."""

    label: str
    value: str
    before: str = ""
    note: str = ""


@dataclass(frozen=True)
class Example:
    """A picture with what a model says of it. `right` is a judgement, None where there is none."""

    picture: Image.Image | Path
    said: str
    expected: str = ""
    before: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page under its heading."""

    title: str
    body: Markup
    note: str = ""


def results_page(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    style: str = "",
) -> str:
    """Write the whole page. `facts` (what, where, how long) stand under the title; `style` joins the page's own."""
    head = tag("header", tag("div", tag("h1", title), tag("p", subtitle, class_="dim")), theme_button(), class_="top")
    listed = tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in (facts or {}).items()), class_="facts")
    parts = (
        tag(
            "section",
            tag("h2", section.title),
            tag("p", section.note, class_="dim") if section.note else None,
            section.body,
        )
        for section in sections
    )
    own = shared("chart.css") + Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    main = tag("main", head, listed if facts else None, *parts)
    return document(title, main, style=own + style, script=shared("chart.js"))


def tiles(numbers: Sequence[Tile]) -> Markup:
    """Numbers side by side, large, with what they were before."""
    return tag("div", *map(_tile, numbers), class_="tiles")


def _tile(tile: Tile) -> Markup:
    before = tag("span", f"{tile.before} → ", class_="before") if tile.before else None
    return tag(
        "div",
        tag("div", tile.label, class_="dim"),
        tag("div", before, tile.value, class_="value"),
        tag("div", tile.note, class_="dim note") if tile.note else None,
        class_="tile",
    )


def gallery(examples: Sequence[Example]) -> Markup:
    """Pictures with what was said of them before and after, and what is true."""
    return tag("div", *map(_example, examples), class_="gallery")


def _example(example: Example) -> Markup:
    judged = {True: "right", False: "wrong", None: ""}[example.right]
    lines = [
        tag("p", example.before, class_="before", title="before training") if example.before else None,
        tag("p", example.said, class_=f"said {judged}".strip(), title="what the model says"),
        tag("p", example.expected, class_="expected", title="what is true") if example.expected else None,
    ]
    image = tag("img", src=picture_uri(example.picture), alt=example.expected or example.said, loading="lazy")
    return tag("figure", image, tag("figcaption", *lines))


def side_by_side(*blocks: Markup) -> Markup:
    """Several charts or tables in as many columns as there is room for."""
    return tag("div", *(tag("div", block) for block in blocks), class_="columns")


def titled(title: str, block: Markup) -> Markup:
    """Write a block with a small heading of its own."""
    return join([tag("h3", title), block])


def picture_uri(picture: Image.Image | Path) -> str:
    """Write a picture as a `data:` address, PNG where it is small (drawings stay sharp), else JPEG."""
    opened = open_picture(picture) if isinstance(picture, Path) else picture
    image = to_rgb(opened, ground=(255, 255, 255)).copy()
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    small = max(image.size) <= 128
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if small else "JPEG", quality=85)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
