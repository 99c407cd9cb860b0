"""What a stranger may ask of a served model: pictures, texts and settings within limits, and no file of the server."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from compose_vlp.data.pictures import picture_size, read_file
from compose_vlp.data.record_pictures import given_picture
from compose_vlp.data.source import BadRecord, Encoded, shown
from compose_vlp.errors import UserError

FOLDER: Final = "COMPOSE_VLP_PICTURES"
"""Environment variable of the server: the folder whose pictures may be asked for by their paths; none if unset."""

MOST_ROWS: Final = 64
MOST_PIXELS: Final = 25_000_000
"""Pixels of one picture (5,000 x 5,000): decoded, it takes 75 MB."""
MOST_PIXELS_TOGETHER: Final = 100_000_000
"""Pixels of all pictures of a request: about a second's work."""
MOST_FILE: Final = 50_000_000
"""Bytes of a picture file."""
MOST_LETTERS: Final = 10_000
"""Letters of a text, and of settings."""
MOST_BEAMS: Final = 16
LARGEST_SEED: Final = 2**63 - 1


def opened_folder() -> Path | None:
    """Find the folder that the server's owner opened to strangers.

    Raises:
        UserError: it is not there.
    """
    name = os.environ.get(FOLDER, "").strip()
    if not name:
        return None
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"{FOLDER} is {name!r}, which is no folder")
    return folder


def rows_of_request(columns: Mapping[str, list[Any]]) -> None:
    """Refuse requests of too many rows.

    Raises:
        UserError: says how many are allowed.
    """
    for name, values in columns.items():
        if len(values) > MOST_ROWS:
            raise UserError(f"{len(values):,} values of {name!r}; a request may have {MOST_ROWS}")


def pictures_of_request(values: Iterable[Any], folder: Path | None) -> list[Any]:
    """Take the pictures that a caller sent, not decoded yet.

    Args:
        values: picture files as bytes, in base64 or as `data:` addresses; paths below `folder`; pixels in arrays.
        folder: what the server's owner opened.

    Raises:
        UserError: something else, or pictures that are larger than the limits.
    """
    read = [_picture(value, folder) for value in values]
    total = sum(_pixels(picture) for picture in read)
    if total > MOST_PIXELS_TOGETHER:
        raise UserError(f"pictures of {total:,} pixels together; a request may have {MOST_PIXELS_TOGETHER:,}")
    return read


def text_of_request(name: str, value: Any) -> Any:
    """Take a value that is no picture, as it is.

    Raises:
        UserError: a text that is too long.
    """
    if isinstance(value, str) and len(value) > MOST_LETTERS:
        raise UserError(f"{name!r} has {len(value):,} letters; a request may have {MOST_LETTERS:,}")
    return value


def seed_of_request(value: Any) -> int:
    """Read a seed as a whole number.

    Raises:
        UserError: it is none, or beyond 63 bits.
    """
    if value is None:
        return 0
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    whole = whole or (isinstance(value, float | np.floating) and float(value).is_integer())
    if not whole or not 0 <= int(value) <= LARGEST_SEED:
        raise UserError(f"seed is {shown(value)}, not a whole number from 0 to {LARGEST_SEED}")
    return int(value)


def settings_of_request(value: Any, inputs: Iterable[str]) -> dict[str, Any]:
    """Settings of generation, from JSON; what is allowed in them, generation says.

    Raises:
        UserError: no JSON object of numbers, or more beams than a stranger may have.
    """
    settings = _object(value)
    for name, setting in settings.items():
        if not isinstance(name, str) or name == "seed" or name in inputs:
            raise UserError(f"settings: generation has no setting {shown(name)}")
        if not isinstance(setting, int | float) or (isinstance(setting, float) and not math.isfinite(setting)):
            raise UserError(f"settings: {name} is {shown(setting)}, not a number")
    if settings.get("beams", 1) > MOST_BEAMS:
        raise UserError(f"settings: {shown(settings['beams'])} beams; a request may have {MOST_BEAMS}")
    return settings


def _object(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, str | None):
        raise UserError(f"settings is {shown(value)}, not a text in JSON")
    if value is not None and len(value) > MOST_LETTERS:
        raise UserError(f"settings has {len(value):,} letters; a request may have {MOST_LETTERS:,}")
    try:
        settings = json.loads(value or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"settings is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"settings is {shown(settings)}, not a JSON object")
    return settings


def _picture(value: Any, folder: Path | None) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return Encoded(bytes(value), "the picture sent")
    if isinstance(value, str | Path):
        return _file(str(value), folder)
    if isinstance(value, Mapping | list | tuple):  # records of data sets may name files so, and requests may not
        raise UserError(f"{shown(value)} is no picture: send its file in base64")
    try:
        return given_picture(value, "the picture")
    except BadRecord as error:
        raise UserError(str(error)) from error


def _file(text: str, folder: Path | None) -> Encoded:
    held = _below(folder, text) if folder is not None else None
    if held is not None:
        return held
    packed = text.partition("base64,")[2] if text.startswith("data:") else text
    try:
        if len(packed) > MOST_FILE * 4 // 3 + 4:
            raise UserError(f"a picture file may have {MOST_FILE:,} bytes; the one sent has more")
        return Encoded(base64.b64decode(packed.strip(), validate=True), "the picture sent")
    except (binascii.Error, ValueError) as error:
        # The same words for a file that is there and for one that is not: nobody is told what this machine has.
        opened = "this server opens no files" if folder is None else "no picture in the folder that this server opens"
        raise UserError(f"{shown(text)} is no picture in base64, and {opened}") from error


def _below(folder: Path, text: str) -> Encoded | None:
    """Read the picture file at that path in the folder; None where there is none, or links lead out of the folder."""
    try:
        path = folder / text
        if ".." in path.parts or not path.is_relative_to(folder):
            return None  # before anything is looked up outside
        path = path.resolve(strict=True)
        if not path.is_relative_to(folder) or not path.is_file() or path.stat().st_size > MOST_FILE:
            return None
        return Encoded(read_file(path).data, f"the picture {shown(text)}")
    # A NUL in the path, a file that may not be read; a RuntimeError is Python 3.11's word for a loop of links.
    except (OSError, ValueError, RuntimeError, BadRecord):
        return None


def _pixels(picture: Any) -> int:
    try:
        if isinstance(picture, Encoded):
            width, height = picture_size(picture)
        else:
            width, height = picture.shape[1::-1] if isinstance(picture, np.ndarray) else picture.size
    except BadRecord as error:
        raise UserError(str(error)) from error
    if width * height > MOST_PIXELS:
        raise UserError(f"a picture of {width} x {height} pixels; a request's may have {MOST_PIXELS:,}")
    return int(width * height)
