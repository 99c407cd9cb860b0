"""What a record, or whoever asks a model, may give as a picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.pictures import check_size, open_picture
from compose_vlp.data.pixels import check_drawn, picture_of_array
from compose_vlp.data.source import BadRecord, Encoded, shown

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Given: TypeAlias = "Path | Encoded | Picture | NDArray[np.uint8]"
"""A picture file, or pixels: of Pillow's, or `[height, width, 3]`."""


def pictures_in(value: Any) -> list[Any] | None:
    """List the pictures of a value that is a list of them; None for anything else, such as pixels in lists."""
    if not isinstance(value, list | tuple) or isinstance(value, Encoded):
        return None
    pixels = bool(value) and isinstance(value[0], int | float | list | tuple) and not isinstance(value[0], Encoded)
    return None if pixels else list(value)


def given_picture(value: Any, name: str) -> Given:
    """One picture in any of the forms that records have: see `compose_vlp.data.source.Record`.

    Args:
        value: the picture.
        name: the field, as messages call it.

    Raises:
        BadRecord: it is no picture; files are not read yet.
    """
    if isinstance(value, Path | Encoded):
        return value
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Encoded(bytes(value), name)
    if isinstance(value, Mapping):
        return _of_mapping(value, name)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        check_size(value.shape[1], value.shape[0], name)
        return value
    if _is_drawn(value):
        return check_drawn(value, name)
    if isinstance(value, np.ndarray | list | tuple) or _is_tensor(value):
        return picture_of_array(value, name)
    raise BadRecord(f"{name} is {shown(value)}, not a picture")


def drawn_picture(value: Any, name: str) -> Picture:
    """Return the same as a picture of Pillow's, decoded and upright; of a list the first.

    Raises:
        BadRecord: it is no picture, or a broken one.
    """
    from PIL import Image

    several = pictures_in(value)
    if several is not None:
        if not several:
            raise BadRecord(f"{name} is an empty list")
        value = several[0]
    given = given_picture(value, name)
    if isinstance(given, Path | Encoded):
        return open_picture(given)
    return Image.fromarray(given) if isinstance(given, np.ndarray) else given


def _of_mapping(value: Mapping[Any, Any], name: str) -> Path | Encoded:
    """Open a picture as the `datasets` library keeps one: what its file holds, and where that was."""
    data, path = value.get("bytes"), value.get("path")
    if isinstance(data, bytes | bytearray | memoryview):
        return Encoded(bytes(data), f"{name} ({path})" if isinstance(path, str) and path else name)
    if data is None and isinstance(path, str | Path) and str(path):
        return Path(path)
    raise BadRecord(f"{name} is {shown(value)}, without `bytes` or a `path` of a picture")


def _is_drawn(value: Any) -> bool:
    from PIL.Image import Image

    return isinstance(value, Image)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
