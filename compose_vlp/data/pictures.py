"""Picture files of any kind as RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compose_vlp.data.source import BadRecord, Encoded

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST_PIXELS = 89_000_000
"""A larger picture (9,400 x 9,400) is refused: decoded, it takes a quarter of a gigabyte and more. Pillow warns a
little above it."""


class Opened(NamedTuple):
    """A decoded picture, and the width and height that it has in its file (upright): it may be decoded smaller."""

    picture: Picture
    width: int
    height: int


def open_picture(file: Path | Encoded) -> Picture:
    """The decoded picture of a file, upright; of an animation, the first frame.

    Raises:
        BadRecord: no such file, no picture, a broken one, or one of more than `MOST_PIXELS` pixels.
    """
    return open_reduced(file).picture


def open_reduced(file: Path | Encoded, reducible: Callable[[int, int], float] | None = None) -> Opened:
    """`open_picture`, not larger than needed.

    Args:
        file: its path, or what it holds.
        reducible: for a width and a height the factor by which the picture may be smaller. A JPEG is decoded at a half,
            a quarter or an eighth of its size, in as small a part of the time, where that is not too small.

    Raises:
        BadRecord: no such file, no picture, a broken one, or one of more than `MOST_PIXELS` pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = file.name if isinstance(file, Encoded) else file
    try:
        with Image.open(io.BytesIO(file.data) if isinstance(file, Encoded) else file) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise BadRecord(f"{name}: {width} x {height} pixels are more than {MOST_PIXELS:,}")
            if reducible is not None and (factor := reducible(width, height)) >= 2:
                opened.draft(None, (max(1, int(width / factor)), max(1, int(height / factor))))
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise BadRecord(f"{name}: no picture of a known kind") from error
    # What Pillow's decoders raise on bytes that are not what they should be.
    except (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise BadRecord(f"{name}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecord(f"{name}: {error}") from error
    turned = (upright.width < upright.height) != (width < height)
    return Opened(upright, height, width) if turned else Opened(upright, width, height)


def to_rgb(picture: Picture, ground: tuple[int, int, int]) -> Picture:
    """The picture in RGB: transparent pixels show the ground, CMYK and palettes are converted, 16 bits become 8."""
    from PIL import Image

    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(_to_bytes(np.asarray(picture, dtype=np.float64)))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        under = Image.new("RGBA", layer.size, (*ground, 255))
        return Image.alpha_composite(under, layer).convert("RGB")
    return picture.convert("RGB")


def _to_bytes(
    grey: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Grey levels of 16 bits (or of 8, where none is above 255) as 8 bits."""
    scale = 257.0 if grey.max(initial=0.0) > 255 else 1.0
    return np.clip(grey / scale, 0, 255).round().astype(np.uint8)
