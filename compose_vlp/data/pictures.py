"""Picture files of any kind as RGB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compose_vlp.data.source import BadRecord

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST_PIXELS = 89_000_000
"""A larger picture (9,400 x 9,400) is refused: decoded, it takes a quarter of a gigabyte and more. Pillow warns a
little above it."""


def open_picture(path: Path) -> Picture:
    """The decoded picture of a file, upright; of an animation, the first frame.

    Raises:
        BadRecord: no such file, no picture, a broken one, or one of more than `MOST_PIXELS` pixels.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise BadRecord(f"{path}: {width} x {height} pixels are more than {MOST_PIXELS:,}")
            opened.load()
            return ImageOps.exif_transpose(opened)
    # What Pillow's decoders raise on bytes that are not what they should be.
    except (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise BadRecord(f"{path}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecord(f"{path}: {error}") from error


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
