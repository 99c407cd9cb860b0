"""Patches are hidden in BEiT's blocks: as many of each picture as asked, each picture its own."""

from __future__ import annotations

import math
import random

import pytest
import torch

from compose_vlp.components.maskers.patch_masker import PatchMasker, block_sides, draw_blocks
from compose_vlp.values import Image

DRAWS = 10_000


@pytest.mark.parametrize(
    ("size", "patch", "ratio", "number"),
    [
        (224, 16, 0.4, 78),
        (224, 16, 75 / 196, 75),
        (64, 8, 0.4, 26),
        (32, 16, 0.5, 2),
        (16, 16, 0.4, 1),
        (64, 8, 0.9, 58),
    ],
)
def test_every_picture_has_as_many_hidden_patches_as_asked(size: int, patch: int, ratio: float, number: int) -> None:
    masker = PatchMasker(PatchMasker.Config(size=size, patch=patch, ratio=ratio))
    hidden = masker(Image(torch.zeros(50, 3, size, size))).hidden
    assert hidden.shape == (50, (size // patch) ** 2)
    assert hidden.sum(1).tolist() == [number] * 50


def test_every_picture_has_its_own_mask_and_every_call_new_ones() -> None:
    first, second = draw_blocks(100, 14, 78), draw_blocks(100, 14, 78)
    assert len(first.unique(dim=0)) == 100
    assert not (first == second).all(1).any()


@pytest.mark.parametrize("missing", [78, 17, 5])
def test_area_and_aspect_of_a_block_are_drawn_as_written(missing: int) -> None:
    """Means and quantiles within five standard errors of the uniform distributions', sides before rounding undone."""
    height, width = block_sides(torch.full((DRAWS,), missing))
    low, high = sorted((16, missing))
    area = (height * width).double()
    # rounding a side moves it by at most a half, evenly to both sides: the area's mean moves by at most 1 / 4 a side
    error = 5 * ((high - low) / math.sqrt(12) + high / 4) / math.sqrt(DRAWS)
    assert abs(area.mean() - (low + high) / 2) < error + 0.5
    aspect = (height.double() / width.clamp(min=1)).log()
    assert abs(aspect.mean()) < 5 * -math.log(0.3) / math.sqrt(3 * DRAWS) + 0.05
    if missing == 78:
        spread = -math.log(0.3)
        assert aspect.std() == pytest.approx(spread / math.sqrt(3), rel=0.1)
        for share in (0.25, 0.75):
            assert area.quantile(share) == pytest.approx(low + share * (high - low), rel=0.1)
            assert aspect.quantile(share) == pytest.approx(-spread + share * 2 * spread, abs=0.15)


def plain_blocks(rng: random.Random, side: int, number: int) -> list[list[bool]]:
    """One mask, block by block and try by try, as the paper's algorithm is written."""
    hidden = [[False] * side for _ in range(side)]
    count, fitted = 0, True
    while count < number and fitted:
        fitted = False
        for _ in range(10):
            area = rng.uniform(16, number - count)
            aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height >= side or width >= side:
                continue
            top, left = rng.randint(0, side - height), rng.randint(0, side - width)
            block = [(row, column) for row in range(top, top + height) for column in range(left, left + width)]
            new = [(row, column) for row, column in block if not hidden[row][column]]
            if 0 < len(new) <= number - count:
                for row, column in new:
                    hidden[row][column] = True
                count, fitted = count + len(new), True
                break
    shown = [(row, column) for row in range(side) for column in range(side) if not hidden[row][column]]
    for row, column in rng.sample(shown, number - count):
        hidden[row][column] = True
    return hidden


def test_masks_are_distributed_as_those_of_the_algorithm_written_out() -> None:
    """Share of each place, and of hidden neighbours, within five and a half standard errors of a difference."""
    rows, rng = 3000, random.Random(0)
    plain = torch.tensor([plain_blocks(rng, 14, 78) for _ in range(rows)])
    drawn = draw_blocks(rows, 14, 78).reshape(-1, 14, 14)
    places = [mask.double().mean(0) for mask in (plain, drawn)]
    error = (places[0] * (1 - places[0]) * 2 / rows).sqrt()
    assert ((places[0] - places[1]).abs() < 5.5 * error).all()
    beside = [(mask[:, :, 1:] & mask[:, :, :-1]).flatten(1).sum(1).double() for mask in (plain, drawn)]
    assert abs(beside[0].mean() - beside[1].mean()) < 5.5 * beside[0].std() * math.sqrt(2 / rows)


@pytest.mark.parametrize(("side", "number"), [(1, 1), (2, 2)])
def test_a_grid_too_small_for_blocks_gets_its_number_evenly(side: int, number: int) -> None:
    hidden = draw_blocks(DRAWS, side, number)
    assert (hidden.sum(1) == number).all()
    shares = torch.full((side**2,), number / side**2, dtype=torch.float64)
    torch.testing.assert_close(hidden.double().mean(0), shares, atol=0.03, rtol=0)


def test_the_meta_device_gets_a_mask_without_values() -> None:
    masker = PatchMasker(PatchMasker.Config(size=64, patch=8))
    hidden = masker(Image(torch.empty(2, 3, 64, 64, device="meta"))).hidden
    assert (hidden.device.type, hidden.shape, hidden.dtype) == ("meta", (2, 64), torch.bool)
