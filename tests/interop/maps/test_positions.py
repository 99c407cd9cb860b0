"""Positions of another size without antialiasing, against the bicubic formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop.maps.name_map import Converted
from compose_vlp.interop.maps.positions import first_positions, fit_positions
from tests.support import assert_near

SHARPNESS = -0.75
"""Of Keys' cubic kernel (1981), as image libraries and torch have it."""


def kernel(distance: float) -> float:
    x, a = abs(distance), SHARPNESS
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def weights(before: int, after: int) -> np.ndarray:
    """`[after, before]`: pixels' middles lie on each other, and beyond the edge lies the edge."""
    made = np.zeros((after, before))
    for row in range(after):
        place = (row + 0.5) * before / after - 0.5
        below = int(np.floor(place))
        for column in range(below - 1, below + 3):
            made[row, min(max(column, 0), before - 1)] += kernel(place - column)
    return made


def written_out(patches: Tensor, after: int) -> Tensor:
    """`[g * g, width]` to `[after * after, width]`, in float64."""
    before = round(len(patches) ** 0.5)
    along, grid = weights(before, after), patches.double().numpy().reshape(before, before, -1)
    return torch.from_numpy(np.einsum("ai,bj,ijc->abc", along, along, grid).reshape(after**2, -1).copy())


def fitted(table: Tensor, rows: int, first: int = 1, in_file: int = 1, *, antialias: bool = False) -> Converted:
    converted = Converted({"positions": table, "other": torch.ones(1)}, {})
    return fit_positions(converted, "positions", rows, first, in_file, antialias=antialias)


@pytest.mark.parametrize(("before", "after"), [(14, 24), (14, 30), (24, 14), (30, 14), (4, 7), (7, 4), (3, 1), (1, 3)])
@pytest.mark.parametrize("shape", [(), (1,)], ids=["rows", "batched"])
def test_patches_are_interpolated_plainly_and_the_cls_stays(before: int, after: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(before)
    table = torch.randn(*shape, 1 + before**2, 5)
    converted = fitted(table, 1 + after**2)
    resized = converted.tensors["positions"].reshape(-1, 5)
    assert converted.tensors["positions"].shape == (*shape, 1 + after**2, 5)
    assert torch.equal(resized[0], table.reshape(-1, 5)[0])
    assert_near(resized[1:], written_out(table.reshape(-1, 5)[1:], after).float())
    assert converted.notes == (f"positions: {before} x {before} patches resized to {after} x {after}",)
    smoothed = fitted(table, 1 + after**2, antialias=True).tensors["positions"].reshape(-1, 5)
    if before > 2 * after:  # the two ways differ where a table becomes smaller
        assert torch.dist(smoothed, resized) > 0.1 * resized.norm()


def test_a_table_of_equal_size_stays_to_the_bit() -> None:
    table = torch.randn(1, 17, 5)
    converted = fitted(table, 17)
    assert torch.equal(converted.tensors["positions"], table) and not converted.notes


def test_rows_of_a_cls_are_left_out_or_asked_for() -> None:
    table = torch.randn(17, 5)
    converted = fitted(table, 16, first=0)
    assert torch.equal(converted.tensors["positions"], table[1:])
    assert converted.notes == ("positions: the row of the CLS is left out",)
    with pytest.raises(UserError, match="the file's `positions` has no row for a CLS, and this component has a CLS"):
        fitted(table[1:], 17, first=1, in_file=0)


def test_half_precision_is_resized_in_float32() -> None:
    table = torch.randn(17, 5).half()
    resized = fitted(table, 50).tensors["positions"]
    assert resized.dtype == torch.float16
    assert_near(resized[1:].double(), written_out(table[1:], 7), 1e-3)


def test_a_longer_table_of_words_is_cut_and_its_last_rows_stay_the_last() -> None:
    table = torch.randn(12, 5)
    cut = first_positions(Converted({"positions": table}, {}), "positions", 8, last=1)
    assert torch.equal(cut.tensors["positions"], torch.cat((table[:7], table[11:])))
    assert cut.notes == ("positions: the first 7 of 11",)
    assert first_positions(cut, "positions", 20) is cut, "too short a one stays as it is"
