"""A record's picture as a file: as it came, where it came as one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final, NamedTuple

from compose_vlp.data.pictures import ENDINGS, kind_of, read_file
from compose_vlp.data.pixels import to_rgb
from compose_vlp.data.places import PICTURES
from compose_vlp.data.record_pictures import drawn_picture, given_picture, pictures_in
from compose_vlp.data.source import Encoded

MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""What a PNG can hold of Pillow's kinds of pixels, in 8 bits."""


class File(NamedTuple):
    """What a picture file holds, and the end of its name (`.jpg`)."""

    data: bytes
    ending: str


def as_file(picture: Any) -> File:
    """Return the bytes of a picture file; pixels become a PNG, which loses nothing.

    Args:
        picture: any picture that a record may have, and that a model has been shown.

    Raises:
        BadRecord: its file is gone or has become another.
    """
    several = pictures_in(picture)
    given = given_picture(picture if several is None else several[0], "the picture")
    if isinstance(given, Path | Encoded):
        held = read_file(given) if isinstance(given, Path) else given
        ending = Path(held.name).suffix.lower()
        return File(held.data, ending if ending in PICTURES else ENDINGS[kind_of(held)])
    drawn = drawn_picture(given, "the picture")
    if drawn.mode not in MODES:
        drawn = to_rgb(drawn, (255, 255, 255))
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return File(stream.getvalue(), ".png")
