"""From a picture of any kind and size to the square that a model takes, and to a normalised tensor."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compose_vlp.blueprint.inputs import ImageAugment, ImageInput
from compose_vlp.data.draws import Draws
from compose_vlp.data.pixels import picture_of_array, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

Pixels: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom exclusive."""
LONGEST = 16
"""A picture longer than so many times its width is cut to that before its shorter side is brought to size: a line of
1 x 10,000 pixels would grow to 2 million otherwise."""
CROP_TRIES = 10
SPARE = 2.0
"""In training, a picture is decoded no smaller than so many times the size it is brought to: no difference is seen."""


class ImageTransform:
    """What an image input does with a picture: RGB, augmentation (where draws are given), square, numbers."""

    def __init__(self, settings: ImageInput) -> None:
        self.settings = settings

    def __call__(
        self, picture: Picture | Pixels, draws: Draws | None = None, full: tuple[int, int] | None = None
    ) -> Pixels:
        """Return the picture as `[size, size, 3]`; augmented by `draws`, or as for evaluation without them.

        `full` is the width and height of the whole picture, where it was decoded smaller: crops are drawn for that one,
        so that two inputs of one view agree however small each had its picture.
        """
        augment = self.settings.augment if draws is not None else None
        if augment is None and isinstance(picture, np.ndarray) and self._fits(picture):
            return picture
        picture = to_rgb(_as_picture(picture), self.settings.ground)
        if augment is None or draws is None:
            return np.asarray(self._square(picture))
        return np.asarray(self._augmented(picture, augment, draws, full or picture.size))

    def reducible(self, width: int, height: int) -> float:
        """Return the factor by which a picture of that width and height may be decoded smaller, in training."""
        augment = self.settings.augment
        if augment is not None and augment.crop is not None:
            area = augment.crop[0] * width * height
            side = min(sqrt(area * augment.ratio[0]), sqrt(area / augment.ratio[1]), width, height)
        else:
            side = max(width, height) if self.settings.resize == "pad" else min(width, height)
        return side / (SPARE * self.settings.size)

    def normalise(self, pixels: Pixels) -> Tensor:
        """`[batch, size, size, 3]` in 0 to 255 as `[batch, 3, size, size]`, float32: (x / 255 - mean) / std."""
        import torch

        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        mean = torch.tensor(self.settings.mean).view(3, 1, 1)
        std = torch.tensor(self.settings.std).view(3, 1, 1)
        return values.div_(255).sub_(mean).div_(std)

    def _augmented(self, picture: Picture, augment: ImageAugment, draws: Draws, full: tuple[int, int]) -> Picture:
        from PIL import Image

        from compose_vlp.data.randaugment import rand_augment

        flip = draws.chance(augment.flip)
        if augment.crop is None:
            square = self._square(picture)
        else:
            box = random_box(*full, augment, draws)
            square = self._resized(picture, box=reduced_box(box, full[0] / picture.width, full[1] / picture.height))
        if flip:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if augment.jitter:
            square = jittered(square, augment.jitter, draws)
        return square if augment.randaugment is None else rand_augment(square, augment.randaugment, draws)

    def _fits(self, pixels: Pixels) -> bool:
        return pixels.dtype == np.uint8 and pixels.shape == (self.settings.size, self.settings.size, 3)

    def _square(self, picture: Picture) -> Picture:
        if self.settings.resize == "crop":
            return self._cropped(picture)
        if self.settings.resize == "pad":
            return self._padded(picture)
        return self._resized(picture)

    def _cropped(self, picture: Picture) -> Picture:
        """Bring the shorter side to size and keep the centre (torchvision's Resize and CenterCrop, to the pixel)."""
        size = self.settings.size
        width, height = picture.size
        longest = LONGEST * min(width, height)
        if max(width, height) > longest:
            picture = picture.crop(centre_box(width, height, min(width, longest), min(height, longest)))
            width, height = picture.size
        short = min(width, height)
        resized = self._resized(picture, int(size * width / short), int(size * height / short))
        return resized.crop(centre_box(*resized.size, size, size))

    def _padded(self, picture: Picture) -> Picture:
        from PIL import Image

        size = self.settings.size
        scale = size / max(picture.size)
        resized = self._resized(picture, max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        canvas = Image.new("RGB", (size, size), self.settings.ground)
        canvas.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
        return canvas

    def _resized(self, picture: Picture, width: int = 0, height: int = 0, box: Box | None = None) -> Picture:
        """Resize the picture, or a box of it, to the given size (the square where none is given)."""
        from PIL import Image

        if box is not None:
            picture = picture.crop(box)
        resample = Image.Resampling[self.settings.interpolation.upper()]
        return picture.resize((width or self.settings.size, height or self.settings.size), resample)


def jittered(picture: Picture, strength: float, draws: Draws) -> Picture:
    """Brightness, contrast and colour, in a random order, each times a factor within `strength` of 1 (torchvision's
    ColorJitter without hue, to the pixel)."""
    from PIL import ImageEnhance

    enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind in draws.shuffled(enhance):
        picture = kind(picture).enhance(draws.between(1 - strength, 1 + strength))
    return picture


def centre_box(width: int, height: int, box_width: int, box_height: int) -> Box:
    """Return the box of that size in the middle of a picture."""
    left, top = round((width - box_width) / 2), round((height - box_height) / 2)
    return left, top, left + box_width, top + box_height


def random_box(width: int, height: int, augment: ImageAugment, draws: Draws) -> Box:
    """Draw a random box whose area and proportions lie within bounds (Szegedy et al. 2015, as torchvision draws it)."""
    smallest, largest = augment.crop or (1.0, 1.0)
    for _ in range(CROP_TRIES):
        area = width * height * draws.between(smallest, largest)
        ratio = exp(draws.between(log(augment.ratio[0]), log(augment.ratio[1])))
        box_width, box_height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = draws.below(width - box_width + 1), draws.below(height - box_height + 1)
            return left, top, left + box_width, top + box_height
    narrow, wide = augment.ratio
    box_width = min(width, max(1, round(height * wide)))
    box_height = min(height, max(1, round(width / narrow)))
    return centre_box(width, height, box_width, box_height)


def reduced_box(box: Box, across: float, down: float) -> Box:
    """Return the same part of a picture that is smaller by these factors; at least a pixel."""
    left, top = min(int(box[0] / across), int(box[2] / across) - 1), min(int(box[1] / down), int(box[3] / down) - 1)
    return max(0, left), max(0, top), max(1, round(box[2] / across)), max(1, round(box[3] / down))


def _as_picture(picture: Picture | NDArray[Any]) -> Picture:
    return picture_of_array(picture, "the picture") if isinstance(picture, np.ndarray) else picture
