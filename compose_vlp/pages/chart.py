"""Curves as inline SVG: one scale a chart, few grid lines, values under the pointer (`chart.js`)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from compose_vlp.pages.markup import Markup, join, tag

WIDTH: Final = 400.0
HEIGHT: Final = 210.0
LEFT: Final = 46.0
RIGHT: Final = 12.0
TOP: Final = 12.0
BOTTOM: Final = 30.0
POINTS: Final = 300
"""More points than this are averaged in runs: nobody sees more, and the page stays small."""


@dataclass(frozen=True)
class Series:
    """A named curve; x ascends, and points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From values to pixels, with round numbers for the grid."""

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def curves(series: Sequence[Series], *, x: str = "step", label: str = "") -> Markup:
    """Draw one or several curves of the same unit as a chart; `label` is what a screen reader says of it."""
    kept = [Series(curve.name, thinned(curve.points)) for curve in series]
    points = [point for curve in kept for point in curve.points]
    if not points:
        return tag("p", "nothing was recorded", class_="dim")
    across = scale([p[0] for p in points], LEFT, WIDTH - RIGHT)
    up = scale([p[1] for p in points], HEIGHT - BOTTOM, TOP)
    drawing = tag(
        "svg",
        join(_grid(across, up)),
        tag("text", x, x=WIDTH - RIGHT, y=HEIGHT - 2, class_="tick", text_anchor="end"),
        join(_line(curve, number, across, up) for number, curve in enumerate(kept)),
        tag("line", class_="cross", y1=TOP, y2=HEIGHT - BOTTOM, visibility="hidden"),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        aria_label=label or ", ".join(curve.name for curve in kept),
    )
    data = [{"name": curve.name, "points": [[a, b, across(a)] for a, b in curve.points]} for curve in kept]
    keys = tag("div", *(_key(curve, number) for number, curve in enumerate(kept)), class_="keys")
    return tag("div", drawing, keys if len(kept) > 1 else None, tag("div", class_="under"), class_="chart",
               data_x=x, data_series=json.dumps(data))  # fmt: skip


def thinned(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most so many points: means of equal runs of the finite ones."""
    finite = [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]
    run = math.ceil(len(finite) / most) if finite else 1
    runs = [finite[at : at + run] for at in range(0, len(finite), run)]
    return [(sum(a for a, _ in part) / len(part), sum(b for _, b in part) / len(part)) for part in runs]


def scale(values: Sequence[float], begin: float, end: float, count: int = 5) -> Scale:
    """Choose a scale over all values whose ends and grid lines are round numbers."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # constant, as far as a chart can tell
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], begin, end, ticks)


def _grid(across: Scale, up: Scale) -> Iterator[Markup]:
    for tick in up.ticks:
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(tick), y2=up(tick), class_="grid")
        yield tag("text", f"{tick:g}", x=LEFT - 8, y=up(tick) + 4, class_="tick", text_anchor="end")
    for tick in across.ticks[:-1]:
        yield tag("text", f"{tick:g}", x=across(tick), y=HEIGHT - BOTTOM + 18, class_="tick", text_anchor="middle")


def _line(series: Series, number: int, across: Scale, up: Scale) -> Markup:
    places = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in series.points)
    return tag("polyline", points=places, class_=f"curve c{number % 6}")


def _key(series: Series, number: int) -> Markup:
    return tag("span", tag("i", class_=f"c{number % 6}"), series.name)
