"""Intervals, paired differences and effects against scipy, simulations and effects that were planted."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from compose_vlp.report.effects import effects
from compose_vlp.report.statistics import adjust, difference, estimate, of_differences, seeds_needed
from compose_vlp.report.trials import Trial


def test_an_interval_is_students():
    values = [0.51, 0.55, 0.49, 0.60]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    actual = estimate(values)
    assert (actual.mean, actual.low, actual.high) == pytest.approx((np.mean(values), low, high))
    assert actual.half == pytest.approx((high - low) / 2)


def test_the_interval_covers_the_true_mean_in_95_of_100_experiments():
    drawn = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 3))
    covered = sum(interval.low <= 3.0 <= interval.high for interval in map(estimate, drawn.tolist()))
    assert covered / 4000 == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval():
    assert (estimate([0.5]).low, estimate([0.5]).half) == (None, None)
    alone = difference({0: 0.5}, {0: 0.4})
    assert alone is not None
    assert (alone.p, alone.told_apart, alone.seeds_needed) == (None, False, None)


def test_a_difference_pairs_the_seeds_that_both_have():
    cell, baseline = {0: 0.50, 1: 0.61, 2: 0.70, 7: 0.9}, {2: 0.68, 1: 0.60, 0: 0.47, 8: 0.1}
    actual = difference(cell, baseline)
    expected = stats.ttest_rel([0.50, 0.61, 0.70], [0.47, 0.60, 0.68])
    assert actual is not None
    assert actual.estimate.seeds == 3
    assert actual.p == pytest.approx(expected.pvalue)
    assert actual.estimate.mean == pytest.approx(0.02)
    assert difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1], 0.0)])
def test_differences_without_any_spread_are_certain(values: list[float], p: float):
    actual = of_differences(values)
    assert actual.p == p
    assert actual.told_apart == (p == 0.0)


def test_holm_corrects_for_the_number_of_comparisons():
    """Against the definition: no p-value is multiplied by less than those that are larger."""
    rng = np.random.default_rng(1)
    differences = {str(index): of_differences(rng.normal(index / 4, 1.0, 5).tolist()) for index in range(6)}
    adjusted = adjust(differences)
    order = sorted(differences, key=lambda name: differences[name].p or 0.0)
    expected = [
        max(min(1.0, (6 - earlier) * differences[order[earlier]].p) for earlier in range(rank + 1)) for rank in range(6)
    ]
    assert [adjusted[name].adjusted for name in order] == pytest.approx(expected)
    assert [adjusted[name].p for name in order] == [differences[name].p for name in order]


def test_the_seeds_needed_would_see_the_difference_four_times_out_of_five():
    pilot = np.array([0.2, 1.6, 0.4, 1.9, -0.6])
    needed = seeds_needed(pilot.tolist())
    assert needed is not None
    drawn = np.random.default_rng(2).normal(pilot.mean(), pilot.std(ddof=1), size=(20000, needed))
    assert np.mean(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.06)
    fewer = drawn[:, : needed - 1]
    assert np.mean(stats.ttest_1samp(fewer, 0.0, axis=1).pvalue < 0.05) < 0.8


def test_more_seeds_are_needed_than_did_not_tell_a_difference_among_as_many_comparisons():
    rng = np.random.default_rng(5)
    differences = {str(index): of_differences(rng.normal(1.0, 0.4, 3).tolist()) for index in range(12)}
    untold = [own for own in adjust(differences).values() if not own.told_apart]
    assert any((differences[name].seeds_needed or 0) <= 3 for name in differences), (
        "one comparison alone would need fewer"
    )
    assert untold and all(own.seeds_needed is None or own.seeds_needed > 3 for own in untold)


def test_no_number_of_seeds_finds_what_is_not_there():
    assert seeds_needed([1.0, -1.0, 1.0, -1.0]) is None
    assert seeds_needed([0.0, 0.0]) is None
    assert seeds_needed([0.3, 0.3]) == 2
    assert seeds_needed([0.3, 0.300001, 0.3]) == 2


def test_rounding_is_no_difference():
    assert of_differences([1e-17, 2e-17, 1.5e-17]).p == 1.0
    assert not of_differences([-1e-16, -1e-16, -1e-16]).told_apart


FACTORS = {"teacher": ["on", "off"], "negatives": ["hard", "random", "none"], "fusion": ["six", "gated"]}


def planted(cells: list[tuple[str, ...]], seeds: int = 3, noise: float = 0.0) -> list[Trial]:
    """Runs whose score has a known effect of each level and one interaction."""
    rng = np.random.default_rng(3)
    worth = {"off": -0.3, "random": -0.1, "none": 0.25, "gated": 0.05}
    trials = []
    for seed, cell in product(range(seeds), cells):
        score = 0.5 + 0.02 * seed + sum(worth.get(level, 0.0) for level in cell) + noise * rng.normal()
        score += 0.4 * (cell[0] == "off" and cell[2] == "gated")
        trials.append(Trial("/".join(cell), dict(zip(FACTORS, cell, strict=True)), seed, {"score": score}))
    return trials


GRID = list(product(*FACTORS.values()))


def test_effects_of_a_full_grid_are_differences_of_marginal_means():
    trials = planted(GRID, noise=0.05)
    actual = {effect.name: effect.difference for effect in effects(trials, FACTORS, "score")}
    for factor, levels in FACTORS.items():
        for level in levels[1:]:
            means = {
                name: np.mean([trial.scores["score"] for trial in trials if trial.levels[factor] == name])
                for name in (level, levels[0])
            }
            assert actual[f"{factor}={level}"].estimate.mean == pytest.approx(means[level] - means[levels[0]])


def test_an_interaction_is_what_two_changes_do_beyond_their_sum():
    actual = {effect.name: effect.difference for effect in effects(planted(GRID), FACTORS, "score")}
    assert actual["teacher=off × fusion=gated"].estimate.mean == pytest.approx(0.4)
    assert actual["teacher=off × negatives=random"].estimate.mean == pytest.approx(0.0, abs=1e-12)
    assert actual["teacher=off"].estimate.mean == pytest.approx(-0.3 + 0.4 / 2)
    assert actual["negatives=none"].estimate.mean == pytest.approx(0.25)


def test_cells_that_are_missing_cost_only_what_they_alone_could_tell():
    known = [cell for cell in GRID if cell != ("off", "none", "gated")]
    actual = {effect.name: effect.difference for effect in effects(planted(known), FACTORS, "score")}
    assert actual["negatives=none"].estimate.mean == pytest.approx(0.25)
    unknown = [cell for cell in GRID if not (cell[0] == "off" and cell[2] == "gated")]
    actual = {effect.name: effect.difference for effect in effects(planted(unknown), FACTORS, "score")}
    assert actual["teacher=off × fusion=gated"] is None
    assert actual["teacher=off × negatives=none"].estimate.mean == pytest.approx(0.0, abs=1e-12)


def test_main_effects_alone_can_be_asked_for():
    trials = [Trial(str(cell), dict(zip("ab", cell, strict=True)), 0, {"score": 1.0}) for cell in ("xx", "yx", "xy")]
    actual = effects(trials, {"a": "xy", "b": "xy"}, "score", interactions=False)
    assert [effect.name for effect in actual] == ["a=y", "b=y"]
    assert all(effect.difference.estimate.mean == pytest.approx(0.0) for effect in actual)


def test_seeds_without_the_score_do_not_count():
    trials = planted(GRID)
    without = [Trial(t.cell, t.levels, t.seed, {} if t.seed == 2 else t.scores) for t in trials]
    actual = {effect.name: effect.difference for effect in effects(without, FACTORS, "score")}
    assert actual["negatives=random"].estimate.seeds == 2
    assert math.isclose(actual["negatives=random"].estimate.mean, -0.1)
