"""Small plots beside each other, each of several series over one axis: how a step grows with what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from compose_vlp.report.drawing import INK, SERIES, drawing

HEIGHT: Final = 2.3
"""Inches of a row of panels."""
HEADROOM: Final = 1.08
"""How much higher than its highest point a panel is, so that the point is drawn whole."""
LONG: Final = 14
"""Letters of an axis's marks together, beyond which they are written aslant."""


@dataclass(frozen=True)
class Panel:
    """One of the plots: points of each series, at values as they are written (`8`, or `{use: gated}`).

    `write` puts a number of the upright axis into words.
    """

    title: str
    across: str
    series: Mapping[str, Sequence[tuple[str, float]]]
    write: Callable[[float], str]


def panels_plot(title: str, panels: Sequence[Panel], columns: int) -> str:
    """Draw panels row by row; a series has one colour in all, and upright axes begin at nothing."""
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    explained: set[str] = set()
    with drawing(title, HEIGHT * rows + 0.3, rows, columns) as (every, drawn):
        for panel, axes in zip(panels, every, strict=False):
            texts = list(dict.fromkeys(text for points in panel.series.values() for text, _ in points))
            places = places_of(texts)
            for name, points in panel.series.items():
                colour = SERIES[names.index(name) % len(SERIES)]
                across = [places[text] for text, _ in points]
                axes.plot(across, [y for _, y in points], "o-", color=colour, linewidth=1.5, markersize=4, label=name)
            slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, texts)) > LONG else {}
            axes.set_xticks([places[text] for text in texts], texts, **slant)
            highest = max((y for points in panel.series.values() for _, y in points), default=0.0)
            axes.set_ylim(0, HEADROOM * highest or None)
            axes.yaxis.set_major_formatter(_written(panel.write))
            axes.set_title(panel.title, fontsize=9, loc="left")
            axes.set_xlabel(panel.across)
            if not explained.issuperset(panel.series):
                axes.legend(frameon=False, fontsize=8, labelcolor=INK)
            explained |= panel.series.keys()
        for axes in every[len(panels) :]:
            axes.set_visible(False)
    return drawn[0]


def _written(write: Callable[[float], str]) -> Callable[[float, float], str]:
    return lambda value, _: write(value)


def places_of(texts: Sequence[str]) -> dict[str, float]:
    """Place values on an axis: numbers by their size, anything else one after the other."""
    try:
        return {text: float(text) for text in texts}
    except ValueError:
        return {text: float(place) for place, text in enumerate(texts)}
