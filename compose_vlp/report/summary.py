"""What a study comes to: a row for each cell and score, and the effects of its factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.report.effects import Effect, effects
from compose_vlp.report.statistics import Difference, Estimate, adjust, difference, estimate
from compose_vlp.report.trials import Cost, Study, Trial

Interval: TypeAlias = tuple[float, float]

COSTS: Final = ("parameters", "flops", "seconds", "memory")


@dataclass(frozen=True)
class CellResult:
    """One cell's score over its seeds.

    Attributes:
        cell: Its name.
        estimate: Mean and interval, None where it was not measured.
        difference: To the baseline, seed by seed; None for the baseline, and where no seed is shared with it.
    """

    cell: str
    estimate: Estimate | None
    difference: Difference | None


@dataclass(frozen=True)
class ScoreSummary:
    """One score of all cells, in the order of the design, and of the factors' effects on it."""

    score: str
    cells: tuple[CellResult, ...]
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Summary:
    """A study with its statistics. `costs` are means over the trials of a cell."""

    study: Study
    scores: tuple[ScoreSummary, ...]
    costs: dict[str, Cost]
    notes: tuple[str, ...]

    @property
    def main(self) -> ScoreSummary:
        """The first score."""
        return self.scores[0]


def summarise(study: Study, scores: Sequence[str] = ()) -> Summary:
    """Compute means, intervals, differences to the baseline, and effects where two factors or more are crossed.

    Args:
        study: The runs.
        scores: Names of the scores to report, the main one first; those of the study if empty.

    Raises:
        UserError: nothing was measured, or no trial has a score of that name.
    """
    study, unusable = _finite(study)
    known = tuple(dict.fromkeys(name for trial in study.trials for name in trial.scores))
    if not known:
        hint = "`compose-vlp evaluate RUN` measures a run; what it finds stays in the run's folder"
        raise UserError(f"{study.name}: no run has been measured", hints=(hint,))
    chosen = tuple(scores) or tuple(name for name in study.score_names if name in known) or known
    for name in chosen:
        if name not in known:
            raise UserError(f"no run was measured by {name!r}", hints=did_you_mean(name, known) or (", ".join(known),))
    summaries = [ScoreSummary(name, _cells(study, name), _effects(study, name)) for name in chosen]
    costs = {cell: _cost([trial.cost for trial in study.trials if trial.cell == cell]) for cell in study.cells}
    return Summary(study, tuple(summaries), costs, (*_notes(study, summaries), *unusable))


def _finite(study: Study) -> tuple[Study, list[str]]:
    """Leave out scores that are no numbers, which would make a mean and every corrected p-value one; say which."""
    notes, trials = [], []
    for trial in study.trials:
        lost = [name for name, value in trial.scores.items() if not math.isfinite(value)]
        if lost:
            notes.append(f"{trial.cell}, seed {trial.seed}: {', '.join(lost)} came out as no number, and is left out")
        kept = {name: value for name, value in trial.scores.items() if name not in lost}
        trials.append(replace(trial, scores=kept))
    return replace(study, trials=trials), notes


def _cells(study: Study, score: str) -> tuple[CellResult, ...]:
    values = {cell: _by_seed(study.trials, cell, score) for cell in study.cells}
    baseline = values.get(study.baseline, {})
    compared = {cell: difference(own, baseline) for cell, own in values.items() if cell != study.baseline}
    adjusted = adjust({cell: own for cell, own in compared.items() if own is not None})
    return tuple(
        CellResult(cell, estimate(list(own.values())) if own else None, adjusted.get(cell))
        for cell, own in values.items()
    )


def _effects(study: Study, score: str) -> tuple[Effect, ...]:
    """Effects where factors are changed together; one at a time, the differences to the baseline say all.

    A fraction that lacks a cell cannot separate interactions: then main effects are those of a model without any.
    """
    first = {factor: levels[0] for factor, levels in study.factors.items() if levels}
    changes = [sum(trial.levels.get(factor) != level for factor, level in first.items()) for trial in study.trials]
    for interactions in (True, False) if max(changes, default=0) > 1 else ():
        known = effects(study.trials, study.factors, score, interactions=interactions)
        if any(effect.difference for effect in known):
            return known
    return ()


def _by_seed(trials: Sequence[Trial], cell: str, score: str) -> dict[int, float]:
    return {trial.seed: trial.scores[score] for trial in trials if trial.cell == cell and score in trial.scores}


def _cost(costs: Sequence[Cost]) -> Cost:
    """Average what is known of each; parameters and FLOPs are equal for all seeds."""
    means: dict[str, float | None] = {}
    for name in COSTS:
        known = [value for cost in costs if (value := getattr(cost, name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    parameters, memory = means["parameters"], means["memory"]
    return Cost(
        None if parameters is None else round(parameters),
        means["flops"],
        means["seconds"],
        None if memory is None else round(memory),
    )


def _notes(study: Study, summaries: Sequence[ScoreSummary]) -> list[str]:
    """Say what a reader must know before believing the table."""
    notes = list(study.notes)
    seeds = {cell: len(_by_seed(study.trials, cell, summaries[0].score)) for cell in study.cells}
    single = [cell for cell, count in seeds.items() if count == 1]
    if single:
        who = "every cell has" if len(single) == len(seeds) else f"{', '.join(single)}: one cell has"
        notes.append(f"{who} one seed: no interval can be given, and no difference told from noise")
    if study.trials and not seeds.get(study.baseline):
        notes.append(f"the baseline ({study.baseline}) was not measured: nothing can be compared with it")
    for cell in study.cells:
        own = {trial.seed for trial in study.trials if trial.cell == cell}
        base = {trial.seed for trial in study.trials if trial.cell == study.baseline}
        if own and base and not own & base:
            notes.append(f"{cell} shares no seed with the baseline: the difference cannot be paired, and is left out")
    lost = sorted({effect.name for summary in summaries for effect in summary.effects if effect.difference is None})
    if lost:
        notes.append(f"the cells that were run cannot separate these effects from others: {', '.join(lost)}")
    if any(own.effects and all(len(effect.levels) == 1 for effect in own.effects) for own in summaries):
        notes.append("what two factors do together cannot be separated: effects are of a model without interactions")
    return [*notes, *(f"{cell}: {reason}" for cell, reason in study.missing.items())]


def front(summary: Summary, score: str, cost: str) -> list[str]:
    """Name the cells of which no other is both cheaper and better, the cheapest first."""
    means = {row.cell: row.estimate.mean for row in _of(summary, score).cells if row.estimate is not None}
    spent = {cell: getattr(summary.costs[cell], cost) for cell in means}
    order = sorted((cell for cell in means if spent[cell] is not None), key=lambda cell: (spent[cell], -means[cell]))
    best: list[str] = []
    for cell in order:
        if not best or means[cell] > means[best[-1]]:
            best.append(cell)
    return best


def _of(summary: Summary, score: str) -> ScoreSummary:
    return next(own for own in summary.scores if own.score == score)
