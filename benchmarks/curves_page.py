"""The page and the drawing that `benchmarks.curves` makes of its figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose_vlp.readable import several
from compose_vlp.report.drawing import for_file
from compose_vlp.report.panels import Panel, panels_plot

TITLE = "A training step against batch, caption length, depth and processes"
TEXT = """\
# {title}

```bash
python -m benchmarks.curves{size}
```

Whole optimiser steps of `albef` beside the authors' order of calls, and of `coca_openclip_vit_b_32` beside open_clip's
CoCa, in turns ([what the candidates are](steps.md)); `+` has our optimiser, and CoCa's has trimmed texts, too. Float32,
{threads} of {processor}, torch {torch}; medians of {steps} after one that warms up, and in parentheses the lowest and
the highest ratio, pair by pair. All captions of a point have the same length. Depth is that of ALBEF's picture tower,
whose texts and fusion have half as many layers each, and of CoCa's three towers. Nothing was timed whose losses differ
by more than 1e-5 or gradients by more than 1e-4. Ratios are of steps in turns; points stand minutes apart, so that the
seconds of two points also hold what the machine's speed did in between.

Over processes ours is alone: `ddp` over gloo, with as many rows in each, and at every point {each} in each.

![Seconds of a step along each axis](curves.svg)"""
OURS = "ours"
NAMES = {"albef": "ALBEF", "coca": "CoCa"}
AXES = {
    "batch": "rows of a step",
    "words": "tokens of a caption",
    "depth": "layers of a tower",
    "processes": "processes",
}


@dataclass(frozen=True)
class Curve:
    """Seconds of each step by candidate, at each value of an axis; `held` is what all points have alike."""

    paper: str
    axis: str
    points: Mapping[int, Mapping[str, Sequence[float]]]
    held: Mapping[str, int]

    def panel(self) -> Panel:
        """Give the drawing's panel: medians."""
        series: dict[str, list[tuple[str, float]]] = {}
        for value, times in self.points.items():
            for name, seconds in times.items():
                series.setdefault(name, []).append((str(value), statistics.median(seconds)))
        return Panel(NAMES[self.paper], AXES[self.axis], series, "{:.3g} s".format)

    def table(self) -> Iterator[str]:
        """Write the page's table line by line: medians, and each opponent's time beside ours, pair by pair."""
        names = list(next(iter(self.points.values())))
        others = [name for name in names if name != OURS]
        rates = ["rows a second"] if self.axis == "processes" else []
        headings = [AXES[self.axis], *(f"{name}, s" for name in names), *(f"{name} / ours" for name in others), *rates]
        yield f"| {' | '.join(headings)} |"
        yield f"|{'---|' * len(headings)}"
        for value, times in self.points.items():
            medians = {name: statistics.median(seconds) for name, seconds in times.items()}
            cells = [str(value), *(f"{medians[name]:.3g}" for name in names)]
            cells += [_beside(times[name], times[OURS]) for name in others]
            cells += [f"{value * self.held['batch'] / medians[OURS]:.3g}" for _ in rates]
            yield f"| {' | '.join(cells)} |"


def write(curves: Sequence[Curve], about: Mapping[str, Any]) -> tuple[str, str]:
    """Write page and drawing; a row of panels for each axis, with the papers beside each other."""
    panels = [curve.panel() for axis in AXES for curve in curves if curve.axis == axis]
    papers = len({curve.paper for curve in curves})
    picture = for_file(panels_plot("seconds of a training step", panels, columns=max(papers, 1)))
    return "\n".join(_page(curves, about)) + "\n", picture


def _page(curves: Sequence[Curve], about: Mapping[str, Any]) -> Iterator[str]:
    yield TEXT.format(
        title=TITLE,
        size="" if about["size"] == "base" else f" --size {about['size']}",
        threads=several(about["threads"], "thread"),
        each=several(about["threads of a process"], "thread"),
        steps=several(about["rounds"], "step"),
        **{name: about[name] for name in ("processor", "torch")},
    )
    for curve in curves:
        held = ", ".join(f"{name} {value}" for name, value in curve.held.items())
        yield f"\n## {NAMES[curve.paper]}: {AXES[curve.axis]}\n\nAt {held}:\n"
        yield from curve.table()
    yield "\nThe seconds of every step stand in [curves.json](curves.json)."


def _beside(other: Sequence[float], ours: Sequence[float]) -> str:
    pairs = [there / here for there, here in zip(other, ours, strict=True)]
    return f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
