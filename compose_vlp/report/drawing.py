"""Drawings as SVG: axes in the manner of all plots, and the colours of pages and files.

Drawn with colours that stand for the page's own, so that one drawing fits light and dark pages, and files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK: Final = "#010101"
LINE: Final = "#020202"
SERIES: Final = ("#0000c0", "#0000c1", "#0000c2", "#0000c3", "#0000c4", "#0000c5")
"""Stand for the colours of a page; black on no background where nothing replaces them."""
_VARIABLES: Final = {INK: "var(--ink)", LINE: "var(--line)", **{c: f"var(--c{n})" for n, c in enumerate(SERIES)}}
_LIGHT: Final = {
    INK: "#1b2330",
    LINE: "#dfe3e9",
    **dict(zip(SERIES, ("#2563c9", "#c2570c", "#14805e", "#9b3fb5", "#b5305f", "#6b7280"), strict=True)),
}
_WHITE: Final = '<rect width="100%" height="100%" fill="#ffffff"/>'


def for_page(svg: str) -> str:
    """Colour a drawing by the variables of the page that it is put into."""
    return re.sub(r"^.*?(?=<svg)", "", _coloured(svg, _VARIABLES), flags=re.DOTALL)


def for_file(svg: str) -> str:
    """Colour a drawing for a file of its own: light colours on white, to be read on dark pages too."""
    return re.sub(r"<svg\b[^>]*>", rf"\g<0>{_WHITE}", _coloured(svg, _LIGHT), count=1)


@contextmanager
def drawing(title: str, height: float, down: int = 1, across: int = 1) -> Iterator[tuple[list[Axes], list[str]]]:
    """Give axes to draw into, row by row; the list has the SVG when the block is left.

    Nothing of pyplot's global state is touched.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,  # equal drawings are equal files, and no two on one page share an id
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,  # a cell's name may hold a dollar
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), LINE),
    }
    drawn: list[str] = []
    with mpl.rc_context(settings):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        FigureCanvasSVG(figure)
        every: list[Axes] = list(figure.subplots(down, across, squeeze=False).flat)
        if len(every) == 1:
            every[0].set_title(title, fontsize=10, loc="left")
        else:
            figure.suptitle(title, fontsize=10)
        for axes in every:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", linewidth=0.6)
        yield every, drawn
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    drawn.append(buffer.getvalue())


def _coloured(svg: str, colours: Mapping[str, str]) -> str:
    for stand_in, colour in colours.items():
        svg = svg.replace(stand_in, colour)
    return svg
