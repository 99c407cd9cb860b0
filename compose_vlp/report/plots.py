"""Plots of a summary as SVG: differences with their intervals, curves of training, and quality against cost.

Drawn with colours that stand for the page's own, so that one drawing fits light and dark pages, and files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from compose_vlp.readable import count, duration, storage, work
from compose_vlp.report.statistics import Difference, estimate
from compose_vlp.report.summary import Summary, front
from compose_vlp.report.trials import Study

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
_COSTS: Final = {"parameters": count, "flops": work, "seconds": duration, "memory": storage}
POINTS: Final = 200
"""More points of a curve than this are averaged in runs."""


def for_page(svg: str) -> str:
    """A drawing to be put into a page, whose variables colour it."""
    return re.sub(r"^.*?(?=<svg)", "", _coloured(svg, _VARIABLES), flags=re.DOTALL)


def for_file(svg: str) -> str:
    """A drawing for a file of its own, in the light colours on white, to be read on dark pages too."""
    return re.sub(r"<svg\b[^>]*>", rf"\g<0>{_WHITE}", _coloured(svg, _LIGHT), count=1)


def difference_plot(title: str, rows: Mapping[str, Difference]) -> str:
    """Points with intervals around a line at nothing, the first row on top."""
    with _drawing(title, height=0.9 + 0.34 * len(rows)) as (axes, drawn):
        axes.axvline(0.0, color=INK, linewidth=0.8)
        for place, difference in enumerate(rows.values()):
            own = difference.estimate
            colour = SERIES[0] if difference.told_apart else SERIES[5]
            if own.low is not None and own.high is not None:
                axes.plot([own.low, own.high], [place, place], color=colour, linewidth=1.6)
            axes.plot([own.mean], [place], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("difference, with its 95 % interval; grey cannot be told from noise")
    return drawn[0]


def curve_plot(study: Study, metric: str) -> str:
    """One metric over the steps, the mean of a cell's seeds with their 95 % interval."""
    with _drawing(metric, height=3.2) as (axes, drawn):
        for number, cell in enumerate(study.cells):
            curves = [
                dict(trial.curves[metric]) for trial in study.trials if trial.cell == cell and metric in trial.curves
            ]
            steps = sorted(set.intersection(*map(set, curves))) if curves else []
            if not steps:
                continue
            runs = [steps[at : at + -(-len(steps) // POINTS)] for at in range(0, len(steps), -(-len(steps) // POINTS))]
            across = [sum(run) / len(run) for run in runs]
            points = [estimate([sum(curve[step] for step in run) / len(run) for curve in curves]) for run in runs]
            colour = SERIES[number % len(SERIES)]
            style = ("-", "--", ":")[number // len(SERIES) % 3]
            axes.plot(across, [point.mean for point in points], style, color=colour, linewidth=1.5, label=cell)
            low, high = ([getattr(point, end) for point in points] for end in ("low", "high"))
            if None not in low:
                axes.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return drawn[0]


def front_plot(summary: Summary, score: str, cost: str) -> str:
    """Quality against cost; a line joins the cells of which no other is both cheaper and better."""
    own = next(candidate for candidate in summary.scores if candidate.score == score)
    with _drawing(f"{score} against {cost}", height=3.4) as (axes, drawn):
        places = {}
        for row in own.cells:
            spent = getattr(summary.costs[row.cell], cost)
            if row.estimate is None or spent is None:
                continue
            places[row.cell] = (spent, row.estimate.mean)
            axes.errorbar([spent], [row.estimate.mean], yerr=row.estimate.half, fmt="o", color=SERIES[0], markersize=5)
            axes.annotate(row.cell, places[row.cell], xytext=(6, 4), textcoords="offset points", fontsize=8, color=INK)
        line = [places[cell] for cell in front(summary, score, cost)]
        axes.plot([x for x, _ in line], [y for _, y in line], drawstyle="steps-post", color=SERIES[1], linewidth=1.2)
        axes.xaxis.set_major_formatter(lambda value, _: _COSTS[cost](value))
        axes.margins(x=0.18)
        axes.set_xlabel(cost)
    return drawn[0]


@contextmanager
def _drawing(title: str, height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw into; the list has the SVG when the block is left. Nothing of pyplot's global state is touched."""
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
        axes = figure.subplots()
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", linewidth=0.6)
        yield axes, drawn
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    drawn.append(buffer.getvalue())


def _coloured(svg: str, colours: Mapping[str, str]) -> str:
    for stand_in, colour in colours.items():
        svg = svg.replace(stand_in, colour)
    return svg


def metrics_of(study: Study) -> Sequence[str]:
    """The metrics that at least two points of a trial show, the losses first."""
    names = dict.fromkeys(name for trial in study.trials for name, curve in trial.curves.items() if len(curve) > 1)
    return sorted(names, key=lambda name: ("loss" not in name, name))
