"""Designs: which cells, and that a fraction tells apart what it promises to."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from compose_vlp.errors import BlueprintError
from compose_vlp.sweep.designs import FEWEST, MOST, combinations_of, generators, name_of, omitted
from compose_vlp.sweep.document import Sweep

Written = Callable[..., Sweep]
THREE = "vary: {a: {x: [], y: [alpha=0], z: [alpha=1]}, b: {p: [], q: [batch=4]}, c: {m: [], n: [lr=1e-4]}}"


def test_a_grid_has_every_combination_the_baseline_first(written: Written) -> None:
    cells = combinations_of(written(THREE))
    assert len(cells) == 12
    assert len({tuple(cell.items()) for cell in cells}) == 12
    assert cells[0] == {"a": "x", "b": "p", "c": "m"}


def test_one_at_a_time_is_the_baseline_and_each_change_alone(written: Written) -> None:
    sweep = written(THREE, "design: one_at_a_time")
    assert [name_of(sweep, cell) for cell in combinations_of(sweep)] == ["baseline", "a=y", "a=z", "b=q", "c=n"]


def test_what_is_left_out_is_not_trained(written: Written) -> None:
    sweep = written(THREE, "leave_out: [{a: [y, z], b: q}, {c: n, a: z}]")
    names = [name_of(sweep, cell) for cell in combinations_of(sweep)]
    assert names == ["baseline", "c=n", "b=q", "b=q, c=n", "a=y", "a=y, c=n", "a=z"]
    assert len(omitted(sweep)) == 12 - len(names)


def test_the_baseline_cannot_be_left_out(written: Written) -> None:
    with pytest.raises(BlueprintError, match="the baseline is left out"):
        combinations_of(written(THREE, "leave_out: [{a: x, b: p}]"))


def switches(count: int) -> str:
    return "vary: {" + ", ".join(f"f{i}: {{no: [], yes: [x-{i}=1]}}" for i in range(count)) + "}"


@pytest.mark.parametrize("count", [FEWEST, 6, 7, 8, 9, 11, MOST])
def test_a_fraction_keeps_effects_and_interactions_of_two_apart(written: Written, count: int) -> None:
    cells = combinations_of(written(switches(count), "design: fraction"))
    signs = np.array([[1 if cell[f"f{i}"] == "yes" else -1 for i in range(count)] for cell in cells])
    pairs = [signs[:, i] * signs[:, j] for i, j in combinations(range(count), 2)]
    columns = np.column_stack([np.ones(len(cells)), signs, *pairs])
    assert np.array_equal(columns.T @ columns, len(cells) * np.eye(columns.shape[1]))
    assert set(cells[0].values()) == {"no"}
    known = {5: 16, 6: 32, 7: 64, 8: 64, 9: 128, 10: 128, 11: 128}
    assert len(cells) == known.get(count, 256), "the smallest that tables have"


def test_there_is_no_fraction_of_few_factors(written: Written) -> None:
    assert generators(4) == ()
    with pytest.raises(BlueprintError, match="no fraction of resolution V of 4 factors"):
        combinations_of(written(switches(4), "design: fraction"))


def test_a_fraction_takes_two_levels(written: Written) -> None:
    with pytest.raises(BlueprintError, match="factor `a` has 3 levels"):
        combinations_of(written(THREE, "design: fraction"))


def test_too_many_factors_or_cells_are_refused(written: Written) -> None:
    with pytest.raises(BlueprintError, match="17 factors"):
        combinations_of(written(switches(17), "design: fraction"))
    with pytest.raises(BlueprintError, match="a grid of 4,096 cells"):
        combinations_of(written(switches(12)))


def test_a_range_is_for_a_search(written: Written) -> None:
    with pytest.raises(BlueprintError, match="is a range, and design `grid` takes levels"):
        combinations_of(written("vary: {alpha: 'uniform(0, 1)'}"))
