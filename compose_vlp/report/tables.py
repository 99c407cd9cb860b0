"""The tables of a summary, as pandas frames of numbers, and as text for Markdown, LaTeX and pages."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from compose_vlp.readable import count, duration, several, storage, work
from compose_vlp.report.effects import Effect
from compose_vlp.report.statistics import Difference, Estimate
from compose_vlp.report.summary import COSTS, ScoreSummary, Summary

if TYPE_CHECKING:
    from pandas import DataFrame

UNKNOWN: Final = "–"
_DIFFERENCE: Final = ("difference", "difference_low", "difference_high", "p", "p_holm", "seeds_needed")
FIELDS: Final = frozenset({"cell", "score", "seeds", "mean", "low", "high", *_DIFFERENCE, *COSTS})
"""Columns of `numbers` beside the factors."""
_LATEX: Final = {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--"}


def numbers(summary: Summary) -> DataFrame:
    """A row for each cell and score, with everything as a number, for programs."""
    from pandas import DataFrame

    return DataFrame(_rows(summary))


def _rows(summary: Summary) -> list[dict[str, object]]:
    rows = []
    for own in summary.scores:
        for result in own.cells:
            trials = [trial for trial in summary.study.trials if trial.cell == result.cell]
            row: dict[str, object] = {"cell": result.cell, **(_levels(trials[0].levels, FIELDS) if trials else {})}
            row |= {"score": own.score, **_estimate(result.estimate), **_difference(result.difference)}
            rows.append(row | {name: getattr(summary.costs[result.cell], name) for name in COSTS})
    return rows


def as_json(summary: Summary) -> dict[str, Any]:
    """Everything as JSON's types, for `--json`."""
    study = summary.study
    effects = [
        {"score": own.score, "levels": dict(effect.levels), **_difference(effect.difference)}
        for own in summary.scores
        for effect in own.effects
    ]
    return {
        "name": study.name,
        "baseline": study.baseline,
        "cells": dict(study.cells),
        "settings": dict(study.settings),
        "rows": _rows(summary),
        "effects": effects,
        "trials": [
            {"cell": trial.cell, "seed": trial.seed, "scores": dict(trial.scores), "folder": str(trial.folder or "")}
            for trial in study.trials
        ],
        "notes": list(summary.notes),
    }


def trials(summary: Summary) -> DataFrame:
    """A row for each run, with all its scores."""
    from pandas import DataFrame

    own = {"cell", "seed", "folder", *(name for trial in summary.study.trials for name in trial.scores)}
    return DataFrame(
        [
            {
                "cell": trial.cell,
                **_levels(trial.levels, own),
                "seed": trial.seed,
                **trial.scores,
                "folder": str(trial.folder or ""),
            }
            for trial in summary.study.trials
        ]
    )


def _levels(levels: Mapping[str, str], fields: Collection[str]) -> dict[str, str]:
    """Name columns of factors; one that is called like another column has `factor.` before it."""
    return {f"factor.{name}" if name in fields else name: level for name, level in levels.items()}


def cell_table(summary: Summary, own: ScoreSummary) -> DataFrame:
    """One score of all cells as people read it: mean ± half the interval, difference, and what it says."""
    from pandas import DataFrame

    rows = []
    for result in own.cells:
        base = result.cell == summary.study.baseline
        rows.append(
            {
                "cell": result.cell,
                "seeds": result.estimate.seeds if result.estimate else 0,
                "mean": mean_text(result.estimate),
                "difference": "baseline" if base else difference_text(result.difference),
                "p (Holm)": "" if base else _p(result.difference),
                "": "" if base else verdict(result.difference),
            }
        )
    return DataFrame(rows)


def cost_table(summary: Summary) -> DataFrame:
    """Tabulate what each cell cost, on average over its seeds."""
    from pandas import DataFrame

    rows = []
    for cell, cost in summary.costs.items():
        rows.append(
            {
                "cell": cell,
                "parameters": UNKNOWN if cost.parameters is None else count(cost.parameters),
                "training": UNKNOWN if cost.flops is None else work(cost.flops),
                "time": UNKNOWN if cost.seconds is None else duration(cost.seconds),
                "peak memory": UNKNOWN if cost.memory is None else storage(cost.memory),
                "what it changes": summary.study.cells[cell],
            }
        )
    return DataFrame(rows)


def effect_table(effects: tuple[Effect, ...]) -> DataFrame:
    """Main effects and interactions, each with its interval."""
    from pandas import DataFrame

    rows = [
        {
            "effect": effect.name,
            "difference": "not separable" if effect.difference is None else difference_text(effect.difference),
            "p (Holm)": _p(effect.difference),
            "": verdict(effect.difference) if effect.difference else "",
        }
        for effect in effects
    ]
    return DataFrame(rows)


def markdown(frame: DataFrame) -> str:
    """A frame of texts as a Markdown table."""
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    lines += [[str(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def latex(frame: DataFrame, caption: str) -> str:
    """A frame of texts as a LaTeX table with booktabs' rules."""
    text = str(frame.to_latex(index=False, escape=True, caption=re.sub(r"([_&%#$])", r"\\\1", caption)))
    for sign, command in _LATEX.items():
        text = text.replace(sign, command)
    return text


def mean_text(estimate: Estimate | None) -> str:
    """`0.5386 ± 0.0123`."""
    if estimate is None:
        return UNKNOWN
    return f"{estimate.mean:.4f}" + ("" if estimate.half is None else f" ± {estimate.half:.4f}")


def difference_text(difference: Difference | None) -> str:
    """`−0.0123 [−0.0201, −0.0045]`."""
    if difference is None:
        return UNKNOWN
    own = difference.estimate
    between = "" if own.low is None or own.high is None else f" [{_signed(own.low)}, {_signed(own.high)}]"
    return f"{_signed(own.mean)}{between}"


def verdict(difference: Difference | None) -> str:
    """Say whether a difference can be told from noise, and what it would take where it cannot."""
    if difference is None or difference.p is None:
        return "" if difference is None else "one seed: cannot be told from noise"
    if difference.told_apart:
        return "higher" if difference.estimate.mean > 0 else "lower"
    if difference.p == 1.0 and difference.estimate.half == 0.0:
        return "equal"
    needed = difference.seeds_needed
    more = "" if needed is None else f" ({several(needed, 'seed')} would tell a difference of this size)"
    return f"cannot be told from noise{more}"


def _p(difference: Difference | None) -> str:
    if difference is None or difference.adjusted is None:
        return UNKNOWN
    return "< 0.0001" if difference.adjusted < 0.0001 else f"{difference.adjusted:.4f}"


def _signed(value: float) -> str:
    text = f"{abs(value):.4f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def _estimate(estimate: Estimate | None) -> dict[str, object]:
    if estimate is None:
        return {"seeds": 0, "mean": None, "low": None, "high": None}
    return {"seeds": estimate.seeds, "mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def _difference(difference: Difference | None) -> dict[str, object]:
    if difference is None:
        return dict.fromkeys(_DIFFERENCE)
    own = difference.estimate
    values = (own.mean, own.low, own.high, difference.p, difference.adjusted, difference.seeds_needed)
    return dict(zip(_DIFFERENCE, values, strict=True))
