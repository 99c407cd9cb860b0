"""A record's picture as a file: as it came, where it came as one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from compose_vlp.data.pictures import to_rgb
from compose_vlp.data.source import Encoded

MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""What a PNG can hold of Pillow's kinds of pixels, in 8 bits."""


class File(NamedTuple):
    """What a picture file holds, and the end of its name (`.jpg`)."""

    data: bytes
    ending: str


def as_file(picture: Any) -> File:
    """The bytes of a picture file; pixels become a PNG, which loses nothing.

    Args:
        picture: a path, what a file holds, a picture of Pillow's, or uint8 pixels `[height, width, 3]`.
    """
    if isinstance(picture, str | Path):
        return File(Path(picture).read_bytes(), Path(picture).suffix.lower())
    if isinstance(picture, Encoded):
        return File(picture.data, Path(picture.name).suffix.lower())
    drawn = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    if drawn.mode not in MODES:
        drawn = to_rgb(drawn, (255, 255, 255))
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return File(stream.getvalue(), ".png")
