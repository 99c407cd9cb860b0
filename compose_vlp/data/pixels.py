"""Pixels of any kind as RGB of 8 bits, as bright as they are meant."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.pictures import FORMATS, check_size, decoding
from compose_vlp.data.source import BadRecord

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SLACK: Final = 0.01
"""Floats leave the range from 0 to 1 by so much where a picture was resampled or stored in half precision."""
DARKEST: Final = 16.0
"""Floats from 0 to less than this may be of either scale, so they are refused."""
STRIP: Final = 256
"""Rows that are converted at once."""
WITH_ALPHA: Final = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def to_rgb(picture: Picture, ground: tuple[int, int, int], name: str = "the picture") -> Picture:
    """Convert to RGB: transparent pixels show the ground, CMYK and palettes are converted, 16 bits become 8.

    Raises:
        BadRecord: a kind of pixels that has no such form, levels of no known scale, or a broken palette.
    """
    from PIL import Image

    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith(("I", "F")):
        picture = _grey(picture, name)
    with decoding(name):
        if picture.mode not in WITH_ALPHA and "transparency" not in picture.info:
            return picture.convert("RGB")
        seen = Image.new("RGB", picture.size)
        for top in range(0, picture.height, STRIP):  # three copies in four channels at once are a lot of memory
            below = min(top + STRIP, picture.height)
            layer = picture.crop((0, top, picture.width, below)).convert("RGBA")
            under = Image.new("RGBA", layer.size, (*ground, 255))
            seen.paste(Image.alpha_composite(under, layer).convert("RGB"), (0, top))
    return seen


def check_drawn(picture: Picture, name: str) -> Picture:
    """Check a picture of Pillow's as it is, decoded: it may have been opened and not yet read.

    Raises:
        BadRecord: it would be decoded from a file of another kind than those that are read, is broken, or too large.
    """
    check_size(*picture.size, name)
    if getattr(picture, "tile", None) and getattr(picture, "format", None) not in FORMATS:
        raise BadRecord(f"{name} is a file of the kind {picture.format}; read are {', '.join(FORMATS)}")
    with decoding(name):
        picture.load()
    return picture


def picture_of_array(value: Any, name: str) -> Picture:
    """Make a picture of levels `[height, width]` or `[height, width, channels]`, or with the channels first.

    Levels are truth values, whole numbers of 8 bits (to 255) or of 16, or floats from 0 to 1 (or from 0 to 255); one
    channel is grey, two are grey and alpha, three red, green and blue, four the same with alpha.

    Args:
        value: an array, a tensor, or lists in lists.
        name: what messages call it.

    Raises:
        BadRecord: another shape, or levels of no known scale.
    """
    from PIL import Image

    levels, channels_first = _array(value, name)
    if levels.ndim == 3:
        levels = _channels_last(levels, channels_first)
    if levels.ndim != 2 and (levels.ndim != 3 or levels.shape[2] not in (2, 3, 4)):
        raise BadRecord(
            f"{name} has the shape {list(levels.shape)}; a picture has [height, width, 3] or [height, width]"
        )
    check_size(levels.shape[1], levels.shape[0], name)
    return Image.fromarray(np.ascontiguousarray(_eight_bits(levels, name)))


def _array(value: Any, name: str) -> tuple[NDArray[Any], bool]:
    """Return an array of numbers, and whether its channels are likely to come first, as a tensor's do."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.is_sparse or value.is_quantized or value.is_complex() or value.device.type == "meta":
            raise BadRecord(f"{name} is a tensor without plain numbers")
        value = value.detach().cpu()
        return np.asarray(value.float() if value.is_floating_point() else value), True
    try:
        levels = np.asarray(value)
    except Exception as error:  # lists of different lengths; a picture within a list is decoded, and raises anything
        raise BadRecord(f"{name} is no picture: {error}") from error
    if levels.dtype.kind not in "buif":
        raise BadRecord(f"{name} holds {levels.dtype}, not numbers")
    return levels, False


def _channels_last(levels: NDArray[Any], channels_first: bool) -> NDArray[Any]:
    first, last = levels.shape[0] in (1, 3, 4), levels.shape[2] in (1, 2, 3, 4)
    if first and (channels_first or not last):
        levels = levels.transpose(1, 2, 0)
    return levels[:, :, 0] if levels.shape[2] == 1 else levels


def _eight_bits(levels: NDArray[Any], name: str, most: int | None = None) -> NDArray[np.uint8]:
    """Levels of any scale as those of 8 bits; `most` is the highest level where that is known.

    Raises:
        BadRecord: levels that are not finite, below 0, or of no known scale.
    """
    if levels.dtype == np.uint8:
        return levels
    if levels.dtype == np.bool_:
        return levels.astype(np.uint8) * np.uint8(255)
    low, high = float(levels.min()), float(levels.max())
    scale = _scale(levels.dtype, low, high, most)
    if scale is None:
        known = "floats from 0 to 1 or to 255" if levels.dtype.kind == "f" else "whole numbers of 8 or 16 bits"
        raise BadRecord(
            f"{name} holds numbers from {low:g} to {high:g}, which are no levels of a picture ({known} are)"
        )
    seen = np.empty(levels.shape, np.uint8)
    for top in range(0, len(levels), STRIP):
        rows = slice(top, top + STRIP)
        seen[rows] = (levels[rows].astype(np.float32) * np.float32(scale)).clip(0, 255).round()
    return seen


def _scale(dtype: np.dtype[Any], low: float, high: float, most: int | None) -> float | None:
    """Find the factor that makes levels of 8 bits; None where they are of no known scale, or no numbers."""
    if dtype.kind == "f":
        if low >= -SLACK and high <= 1 + SLACK:
            return 255.0
        return 1.0 if low >= 0 and DARKEST <= high <= 255 else None
    if low < 0 or high > 65535:
        return None
    if most is not None:
        return 255 / most
    sixteen = dtype == np.uint16 or high > 255
    return 1 / 257 if sixteen else 1.0


def _grey(picture: Picture, name: str) -> Picture:
    """Convert a picture of 16 or 32 bits a pixel to 8 bits."""
    from PIL import Image

    with decoding(name):
        levels = np.asarray(picture)
    return Image.fromarray(_eight_bits(levels, name, picture.info.get("levels")))
