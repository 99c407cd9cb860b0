"""Plots of a summary as SVG: differences with their intervals, curves of training, and quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from compose_vlp.readable import count, duration, storage, work
from compose_vlp.report.drawing import INK, SERIES, drawing
from compose_vlp.report.statistics import Difference, estimate
from compose_vlp.report.summary import Summary, front
from compose_vlp.report.trials import Study

_COSTS: Final = {"parameters": count, "flops": work, "seconds": duration, "memory": storage}
POINTS: Final = 200
"""More points of a curve than this are averaged in runs."""


def difference_plot(title: str, rows: Mapping[str, Difference]) -> str:
    """Points with intervals around a line at nothing, the first row on top."""
    with drawing(title, height=0.9 + 0.34 * len(rows)) as ((axes,), drawn):
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
    with drawing(metric, height=3.2) as ((axes,), drawn):
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
    with drawing(f"{score} against {cost}", height=3.4) as ((axes,), drawn):
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


def metrics_of(study: Study) -> Sequence[str]:
    """The metrics that at least two points of a trial show, the losses first."""
    names = dict.fromkeys(name for trial in study.trials for name, curve in trial.curves.items() if len(curve) > 1)
    return sorted(names, key=lambda name: ("loss" not in name, name))
