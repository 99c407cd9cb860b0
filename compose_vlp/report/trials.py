"""What a report is made of: trained and measured runs, each of one cell of a design and one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Curve: TypeAlias = Sequence[tuple[int, float]]
"""Values of one metric by step, in the order of steps."""


@dataclass(frozen=True)
class Cost:
    """What a run cost; None where it is not known.

    Attributes:
        parameters: Trained and frozen, teachers left out.
        flops: Of the whole training, in floating point operations.
        seconds: Of the whole training, measured.
        memory: The most that the process held at a time, in bytes.
    """

    parameters: int | None = None
    flops: float | None = None
    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Trial:
    """A finished run of one cell with one seed.

    Attributes:
        cell: The cell's name, equal for all seeds of it.
        levels: The level of each factor, by the factor's name.
        seed: Runs of two cells with one seed are a pair: they saw the same records in the same order.
        scores: What was measured at the end, by name, such as `retrieval.mean_recall`.
        cost: What it took.
        curves: Metrics of training and of evaluations in training, by name.
        folder: The run's folder.
    """

    cell: str
    levels: Mapping[str, str]
    seed: int
    scores: Mapping[str, float]
    cost: Cost = Cost()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True)
class Study:
    """Several runs that answer one question.

    Attributes:
        name: Short, such as the sweep's file.
        question: What it asks, a sentence or two; may be empty.
        factors: Levels by factor, the baseline's first; empty where cells are loose runs.
        baseline: The cell that the others are compared with.
        cells: All cells in the order of the design, with what each changes, in words.
        trials: What was trained and measured.
        scores: Names of the scores to be reported, the main one first; all that the trials have where empty.
        missing: Cells that have no trial, or fewer than they should, with the reason.
        settings: What was equal for all, in words by name: budget, design, data, seeds, versions.
        notes: What a reader must know before believing a comparison.
    """

    name: str
    question: str
    factors: Mapping[str, Sequence[str]]
    baseline: str
    cells: Mapping[str, str]
    trials: Sequence[Trial]
    scores: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores to be reported: those asked for, else all, in the order in which trials have them."""
        return tuple(self.scores) or tuple(dict.fromkeys(name for trial in self.trials for name in trial.scores))
