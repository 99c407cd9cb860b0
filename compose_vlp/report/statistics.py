"""Means, paired differences and effects over seeds, each with the interval that says how far it can be trusted.

Seeds are what was drawn at random, so the number of values behind every interval is the number of seeds. Runs of two
cells with the same seed saw the same records in the same order: their difference is taken seed by seed, which takes out
what a seed does to both (Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks", section 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

LEVEL: Final = 0.95
"""Of all intervals."""
POWER: Final = 0.8
"""The chance with which `seeds_needed` would tell a difference from noise."""
ROUNDING: Final = 1e-12
"""Differences that are smaller are rounding: scores are between about 0.001 and 100."""
MOST_SEEDS: Final = 1000
"""Where a difference would need more seeds than this, it is not worth telling how many."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and the interval in which the true mean lies with 95% confidence.

    `low` and `high` are None for one seed, of which nothing can be said about other seeds.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def half(self) -> float | None:
        """Half the interval's width: what stands behind ±."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference:
    """A paired difference, and whether it can be told from noise.

    Attributes:
        estimate: Mean and interval of the differences seed by seed.
        p: The chance of a difference at least as large where there is none (two-sided paired t-test).
            None for one seed.
        adjusted: `p` after Holm's correction for the number of comparisons in one table.
        seeds_needed: Seeds with which a true difference of this size would be told from noise four times out of five,
            corrected as `adjusted`; None where one seed says nothing of the noise, or more than a thousand were needed.
        by_seed: The differences themselves.
    """

    estimate: Estimate
    p: float | None
    adjusted: float | None
    seeds_needed: int | None
    by_seed: tuple[float, ...]

    @property
    def told_apart(self) -> bool:
        """Say whether the difference can be told from noise, all comparisons of the table considered."""
        return self.adjusted is not None and self.adjusted < 1 - LEVEL


def estimate(values: Sequence[float]) -> Estimate:
    """Average over seeds, with Student's interval.

    Raises:
        ValueError: no value.
    """
    from scipy import stats

    if not values:
        raise ValueError("a mean of nothing")
    mean, number = math.fsum(values) / len(values), len(values)
    if number == 1:
        return Estimate(mean, None, None, 1)
    error = float(np.std(values, ddof=1)) / math.sqrt(number)
    half = float(stats.t.ppf((1 + LEVEL) / 2, number - 1)) * error
    return Estimate(mean, mean - half, mean + half, number)


def difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Compare a cell with the baseline over the seeds that both have; both map a seed to a score. None without any.

    `adjusted` is as `p`, and `seeds_needed` those of one comparison; `adjust` corrects all differences of a table.
    """
    shared = [seed for seed in values if seed in baseline]
    return of_differences([values[seed] - baseline[seed] for seed in shared]) if shared else None


def of_differences(differences: Sequence[float]) -> Difference:
    """Say what differences, a seed each, come to."""
    differences = [0.0 if abs(value) < ROUNDING else value for value in differences]
    mean = estimate(differences)
    p = _p_value(differences)
    return Difference(mean, p, p, seeds_needed(differences), tuple(differences))


def adjust(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Correct for many comparisons (Holm 1979): the k-th smallest of n p-values is multiplied by n - k + 1.

    So many comparisons are also those in which `seeds_needed` would tell the difference.
    """
    p_values = sorted((difference.p, name) for name, difference in differences.items() if difference.p is not None)
    adjusted = dict(differences)
    least = 0.0
    for rank, (p, name) in enumerate(p_values):
        comparisons = len(p_values) - rank
        least = max(least, min(1.0, comparisons * p))
        needed = seeds_needed(differences[name].by_seed, comparisons)
        adjusted[name] = replace(differences[name], adjusted=least, seeds_needed=needed)
    return adjusted


def seeds_needed(differences: Sequence[float], comparisons: int = 1) -> int | None:
    """Count the seeds that would tell a true difference of this mean and spread from noise with a power of 0.8.

    The chance to be wrong is divided among so many `comparisons`.
    """
    if len(differences) < 2:
        return None
    mean, spread = abs(math.fsum(differences) / len(differences)), float(np.std(differences, ddof=1))
    if spread < ROUNDING:
        return 2 if mean >= ROUNDING else None
    level = 1 - (1 - LEVEL) / comparisons
    if not _power(mean / spread, MOST_SEEDS, level) >= POWER:
        return None
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        if _power(mean / spread, middle, level) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


def _power(size: float, seeds: int, level: float) -> float:
    """Give the chance that a paired t-test of a `level` sees a difference of `size` standard deviations."""
    from scipy import stats

    freedom, shift = seeds - 1, size * math.sqrt(seeds)
    bound = float(stats.t.ppf((1 + level) / 2, freedom))
    chance = float(stats.nct.sf(bound, freedom, shift) + stats.nct.cdf(-bound, freedom, shift))
    return 1.0 if math.isnan(chance) and shift > bound else chance  # so far out that the tail has no digits left


def _p_value(differences: Sequence[float]) -> float | None:
    from scipy import stats

    if len(differences) < 2:
        return None
    mean, spread = math.fsum(differences) / len(differences), float(np.std(differences, ddof=1))
    if spread < ROUNDING:  # equal numbers are equal, others differ for certain
        return 0.0 if abs(mean) >= ROUNDING else 1.0
    return 2 * float(stats.t.sf(abs(mean) / spread * math.sqrt(len(differences)), len(differences) - 1))
