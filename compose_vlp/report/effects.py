"""Effects of factors: what each level does on average over the others, and what two factors do together.

One linear model of main effects and two-way interactions is fitted for each seed by least squares, with levels coded
around their mean; in a full grid the effects are then the differences of marginal means. Each seed gives one value of
an effect, and the interval is over seeds. What the cells that were run cannot separate is left out, by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compose_vlp.report.statistics import Difference, adjust, of_differences
from compose_vlp.report.trials import Trial

Factors: TypeAlias = Mapping[str, Sequence[str]]
"""Levels by factor; the first is the baseline's."""
Vector: TypeAlias = NDArray[np.float64]

INSEPARABLE: Final = 1e-8
"""Share of a contrast that lies outside what the cells span, above which it is not estimable."""


@dataclass(frozen=True)
class Effect:
    """What changing one factor does, or what changing two together does beyond the sum of both.

    Attributes:
        levels: The changed factors with their levels; each is compared with its factor's first level.
        difference: In units of the score; None where the cells that were run cannot tell it from other effects.
    """

    levels: Mapping[str, str]
    difference: Difference | None

    @property
    def name(self) -> str:
        return " × ".join(f"{factor}={level}" for factor, level in self.levels.items())


def effects(trials: Sequence[Trial], factors: Factors, score: str, *, interactions: bool = True) -> tuple[Effect, ...]:
    """Estimate all main effects and, where asked for, two-way interactions.

    Args:
        trials: All runs; seeds in which an effect cannot be estimated do not count towards it.
        factors: Factors with their levels, the baseline's first.
        score: Name of the score.
        interactions: Whether two-way interactions are in the model and in the answer.
    """
    varied = {name: levels for name, levels in factors.items() if len(levels) > 1}
    model = _Model(varied, interactions=interactions)
    by_seed: dict[int, list[Trial]] = {}
    for trial in trials:
        if score in trial.scores:
            by_seed.setdefault(trial.seed, []).append(trial)
    values: dict[str, list[float]] = {}
    changed: dict[str, Mapping[str, str]] = {}
    for levels, contrast in model.contrasts():
        name = Effect(levels, None).name
        changed[name], values[name] = levels, []
        for runs in by_seed.values():
            value = model.value(runs, score, contrast)
            if value is not None:
                values[name].append(value)
    known = adjust({name: of_differences(differences) for name, differences in values.items() if differences})
    return tuple(Effect(levels, known.get(name)) for name, levels in changed.items())


class _Model:
    """A linear model with a column for the mean, each level but the first of a factor, and each pair of those."""

    def __init__(self, factors: Factors, *, interactions: bool) -> None:
        self.factors = factors
        self.pairs = list(combinations(factors, 2)) if interactions else []

    def row(self, levels: Mapping[str, str]) -> Vector:
        """Code one cell: sum coding, in which each factor's effects add up to nothing."""
        codes = {factor: self._code(factor, levels[factor]) for factor in self.factors}
        crossed = [np.outer(codes[first], codes[second]).ravel() for first, second in self.pairs]
        return np.concatenate([np.ones(1), *codes.values(), *crossed])

    def contrasts(self) -> Iterator[tuple[Mapping[str, str], Vector]]:
        """Name each effect by its levels, with what picks it out of the coefficients."""
        for factor, levels in self.factors.items():
            for level in levels[1:]:
                yield {factor: level}, self._mean({factor: level}) - self._mean({factor: levels[0]})
        for first, second in self.pairs:
            for level_a, level_b in product(self.factors[first][1:], self.factors[second][1:]):
                base, beside = self.factors[first][0], self.factors[second][0]
                both = self._mean({first: level_a, second: level_b}) + self._mean({first: base, second: beside})
                each = self._mean({first: level_a, second: beside}) + self._mean({first: base, second: level_b})
                yield {first: level_a, second: level_b}, both - each

    def value(self, runs: Sequence[Trial], score: str, contrast: Vector) -> float | None:
        """Fit one seed's runs and read an effect off; None where these runs cannot separate it."""
        rows = np.stack([self.row(run.levels) for run in runs])
        inverse = np.linalg.pinv(rows)
        outside = contrast - contrast @ inverse @ rows
        if np.linalg.norm(outside) > INSEPARABLE * np.linalg.norm(contrast):
            return None
        return float(contrast @ inverse @ np.array([run.scores[score] for run in runs]))

    def _mean(self, fixed: Mapping[str, str]) -> Vector:
        """Average the rows of a full grid over all factors that are not fixed."""
        codes = {
            factor: self._code(factor, fixed[factor]) if factor in fixed else np.zeros(len(levels) - 1)
            for factor, levels in self.factors.items()
        }
        crossed = [np.outer(codes[first], codes[second]).ravel() for first, second in self.pairs]
        return np.concatenate([np.ones(1), *codes.values(), *crossed])

    def _code(self, factor: str, level: str) -> Vector:
        levels = self.factors[factor]
        code = np.zeros(len(levels) - 1)
        at = list(levels).index(level)
        if at == 0:
            return code - 1
        code[at - 1] = 1
        return code
