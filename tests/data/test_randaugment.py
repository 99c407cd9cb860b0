"""RandomAugment: what each operation does at its strength, how often, and the same again from the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compose_vlp import Blueprint
from compose_vlp.blueprint.inputs import ImageAugment, ImageInput, RandAugment
from compose_vlp.data.draws import Draws
from compose_vlp.data.randaugment import OPERATIONS, rand_augment
from compose_vlp.data.transforms import ImageTransform

IDENTITY, AUTOCONTRAST, EQUALIZE, BRIGHTNESS, SHARPNESS, SHEAR_X, SHEAR_Y, SHIFT_X, SHIFT_Y, ROTATE = OPERATIONS
SIDE = 61


def gradient() -> Image.Image:
    x, y = np.meshgrid(np.linspace(60, 180, SIDE), np.linspace(80, 200, SIDE))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def done(operation: Any, level: float, picture: Image.Image | None = None) -> np.ndarray[Any, Any]:
    return np.asarray(operation(picture or gradient(), level / 10)).astype(int)


BEFORE = np.asarray(gradient()).astype(int)


def test_colours() -> None:
    assert (done(IDENTITY, 7) == BEFORE).all()
    assert np.ptp(done(AUTOCONTRAST, 7), axis=(0, 1)).tolist() == [255, 255, 255]
    assert np.ptp(done(EQUALIZE, 7), axis=(0, 1)).min() > 240
    for level, factor in ((0, 0.1), (5, 1.0), (10, 1.9)):
        assert abs(done(BRIGHTNESS, level) - np.clip(BEFORE * factor, 0, 255)).max() <= 1
    assert (done(SHARPNESS, 5) == BEFORE).all()
    noisy = Image.fromarray(np.random.default_rng(0).integers(90, 160, (SIDE, SIDE, 3), np.uint8))
    spread = [done(SHARPNESS, level, picture=noisy).std() for level in (0, 5, 10)]
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize(("operation", "axis"), [(SHIFT_X, 1), (SHIFT_Y, 0)])
def test_shifts_of_seven_pixels_to_either_side_uncover_grey(operation: Any, axis: int) -> None:
    before = np.moveaxis(BEFORE, axis, 0)
    there, back = (np.moveaxis(done(operation, level), axis, 0) for level in (7, -7))
    assert (there[:-7] == before[7:]).all()
    assert (back[7:] == before[:-7]).all()
    assert (there[-7:] == 128).all()
    assert (back[:7] == 128).all()


def test_both_sides_are_drawn() -> None:
    white, settings = Image.new("RGB", (SIDE, SIDE), "white"), RandAugment(count=1, level=10)
    seen = {np.asarray(rand_augment(white, settings, Draws(seed))).tobytes() for seed in range(300)}
    for operation in (SHEAR_X, SHEAR_Y, SHIFT_X, SHIFT_Y, ROTATE):
        for strength in (1.0, -1.0):
            assert np.asarray(operation(white, strength)).tobytes() in seen


@pytest.mark.parametrize("operation", [SHEAR_X, SHEAR_Y])
def test_shears_move_the_far_edge_by_three_tenths_of_the_side(operation: Any) -> None:
    white = Image.new("RGB", (SIDE, SIDE), "white")
    far = done(operation, 10, picture=white)
    edge = far[-1] if operation is SHEAR_X else far[:, -1]
    assert abs(int((edge[:, 0] < 200).sum()) - 0.3 * SIDE) <= 1.5
    near = far[0] if operation is SHEAR_X else far[:, 0]
    assert (near[1:-1] == 255).all()


def test_turns_of_thirty_degrees_at_most() -> None:
    line = np.zeros((SIDE, SIDE, 3), np.uint8)
    line[SIDE // 2] = 255
    turned = done(ROTATE, 10, picture=Image.fromarray(line))
    rows, columns = np.nonzero(turned[:, 15:-15, 0] > 150)
    slope = np.polyfit(columns, rows, 1)[0]
    assert abs(abs(slope) - np.tan(np.radians(30))) < 0.03


def test_so_many_operations_each_done_half_the_time() -> None:
    settings = RandAugment(count=1, level=0)  # brightness 0.1, the one operation that darkens at level 0
    dark = [np.asarray(rand_augment(gradient(), settings, Draws(seed))).mean() < 60 for seed in range(2000)]
    assert 0.035 < np.mean(dark) < 0.066


def test_it_follows_crop_and_flip_and_their_draws_stay_as_they_were() -> None:
    plain = ImageAugment(crop=(0.3, 0.6), flip=0.5)
    more = ImageAugment(crop=(0.3, 0.6), flip=0.5, randaugment=RandAugment(count=2, level=7))
    changed = 0
    for seed in range(40):
        square = Image.fromarray(ImageTransform(ImageInput(size=32, augment=plain))(gradient(), Draws(seed)))
        seen = ImageTransform(ImageInput(size=32, augment=more))(gradient(), Draws(seed))
        again = ImageTransform(ImageInput(size=32, augment=more))(gradient(), Draws(seed))
        assert (seen == again).all()
        changed += bool((seen != np.asarray(square)).any())
    assert 20 < changed < 38


@pytest.mark.parametrize("wrong", [{"level": 11}, {"level": -1}, {"count": 0, "level": 5}, {}])
def test_strengths_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RandAugment(**wrong)


@pytest.mark.parametrize(
    ("name", "level"), [("albef", 7), ("blip", 5), ("blip_large", 5), ("tiny/albef", None), ("tiny/blip", None)]
)
def test_papers_have_their_strength_and_the_tiny_ones_none(name: str, level: float | None) -> None:
    image = Blueprint.load(name).check().inputs["image"]
    assert isinstance(image, ImageInput) and image.augment is not None
    assert image.augment.randaugment == (None if level is None else RandAugment(count=2, level=level))
