"""RandomAugment as ALBEF and BLIP have it: a few operations drawn from ten, all of one strength.

After Cubuk et al. (2020, arXiv 1909.13719); operations, probabilities and strengths are those of
github.com/salesforce/ALBEF, `dataset/randaugment.py`, which BLIP has too: shifts reach 10 pixels, turns 30 degrees,
shears 0.3, and what they uncover is grey (128).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from PIL import Image, ImageEnhance, ImageOps

from compose_vlp.blueprint.inputs import RandAugment
from compose_vlp.data.draws import Draws

Picture: TypeAlias = Image.Image
Operation: TypeAlias = Callable[[Picture, float], Picture]
"""Of a picture and a strength in -1 to 1; its sign is the side to which a picture is moved, and nothing to colours."""

MOST: Final = 10
GREY: Final = (128, 128, 128)


def rand_augment(picture: Picture, settings: RandAugment, draws: Draws) -> Picture:
    """So many operations, drawn with repetition, each of them done with the probability 0.5."""
    for _ in range(settings.count):
        operation = draws.pick(OPERATIONS)
        if draws.chance(0.5):
            side = 1 if draws.chance(0.5) else -1
            picture = operation(picture, side * settings.level / MOST)
    return picture


def _brightness(picture: Picture, strength: float) -> Picture:
    return ImageEnhance.Brightness(picture).enhance(1.8 * abs(strength) + 0.1)


def _sharpness(picture: Picture, strength: float) -> Picture:
    return ImageEnhance.Sharpness(picture).enhance(1.8 * abs(strength) + 0.1)


def _moved(picture: Picture, *matrix: float) -> Picture:
    """Move the picture: its pixel (x, y) becomes that at (ax + by + c, dx + ey + f) of this one."""
    method, how = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return picture.transform(picture.size, method, matrix, how, fillcolor=GREY)


def _turned(picture: Picture, strength: float) -> Picture:
    return picture.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=GREY)


OPERATIONS: Final[tuple[Operation, ...]] = (
    lambda picture, _: picture,
    lambda picture, _: ImageOps.autocontrast(picture),
    lambda picture, _: ImageOps.equalize(picture),
    _brightness,
    _sharpness,
    lambda picture, strength: _moved(picture, 1, 0.3 * strength, 0, 0, 1, 0),
    lambda picture, strength: _moved(picture, 1, 0, 0, 0.3 * strength, 1, 0),
    lambda picture, strength: _moved(picture, 1, 0, 10 * strength, 0, 1, 0),
    lambda picture, strength: _moved(picture, 1, 0, 0, 0, 1, 10 * strength),
    _turned,
)
"""Nothing, contrast to the full range, equal histogram, brightness, sharpness, shears, shifts, turn."""
