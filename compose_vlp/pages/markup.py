"""HTML and SVG written as calls: text is escaped unless it is `Markup` already."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final

VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})

_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What XML has no place for, and halves of surrogate pairs, for which UTF-8 has none: cut texts hold both."""


class Markup(str):
    """Text that is markup, and is put into other markup as it is."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Anything as markup: `Markup` as it is, all else as text with its special characters escaped."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNWRITABLE.sub("\ufffd", str(value))))


def join(children: Iterable[object]) -> Markup:
    """Several pieces after each other; None is nothing."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Write an element. `class_` is `class`, `stroke_width` is `stroke-width`; None and False are left out."""
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{escape(_number(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening) if name in VOID else Markup(f"{opening}{join(children)}</{name}>")


def table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> Markup:
    """Write a table; the page's style sets numbers, and whatever follows the first column, to the right."""
    head = tag("tr", *(tag("th", heading) for heading in headings))
    body = (tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def markdown_cell(text: object) -> str:
    """Write a text for a cell of a Markdown table, which a bar would end; escaped within code it shows its slash."""

    def code(match: re.Match[str]) -> str:
        return f"<code>{html.escape(match[1], quote=False)}</code>" if "|" in match[1] else match[0]

    return re.sub(r"`([^`]*)`", code, str(text)).replace("|", "&#124;").replace("\n", " ")


def _number(value: object) -> object:
    """Coordinates to a tenth of a pixel: pictures stay small and equal from run to run."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
