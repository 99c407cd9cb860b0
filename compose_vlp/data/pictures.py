"""Picture files as decoded pictures: kinds that are read, limits, and what is wrong with a file that is not read."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from compose_vlp.data.source import BadRecord, Encoded, clipped

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

ENDINGS: Final = {
    "AVIF": ".avif", "BMP": ".bmp", "DIB": ".dib", "GIF": ".gif", "JPEG": ".jpg", "JPEG2000": ".jp2", "MPO": ".jpg",
    "PNG": ".png", "PPM": ".ppm", "TIFF": ".tif", "WEBP": ".webp",
}  # fmt: skip
"""Pillow's names of the kinds that are read, with the ends of their names: those in which photographs and drawings are
published. Others are not even tried, since Pillow hands some (EPS, WMF) to programs of the machine, and most are seldom
met but by attackers."""
FORMATS: Final = tuple(ENDINGS)

MOST_PIXELS: Final = 89_000_000
"""A larger picture (9,400 x 9,400) is refused: decoded, it takes a quarter of a gigabyte and more. Pillow warns a
little above it."""

MOST_BYTES: Final = 8 * MOST_PIXELS
"""A larger file is refused: so much has a picture of `MOST_PIXELS` in four channels of 16 bits that is not packed."""


class Opened(NamedTuple):
    """A decoded picture, and the width and height that it has in its file (upright): it may be decoded smaller."""

    picture: Picture
    width: int
    height: int


def open_picture(file: Path | Encoded) -> Picture:
    """Decode the picture of a file, upright; of an animation, the first frame.

    Raises:
        BadRecord: no such file, no picture of a kind in `FORMATS`, a broken one, or one of more than `MOST_PIXELS`.
    """
    return open_reduced(file).picture


def open_reduced(file: Path | Encoded, reducible: Callable[[int, int], float] | None = None) -> Opened:
    """`open_picture`, not larger than needed.

    Args:
        file: its path, or what it holds.
        reducible: for a width and a height the factor by which the picture may be smaller. A JPEG is decoded at a half,
            a quarter or an eighth of its size, in as small a part of the time, where that is not too small.

    Raises:
        BadRecord: as `open_picture`.
    """
    from PIL import Image, ImageOps

    name = clipped(file.name if isinstance(file, Encoded) else file)
    source = _checked(file, name)
    with decoding(name), Image.open(source, formats=_readable()) as opened:
        width, height = opened.size
        check_size(width, height, name)
        if reducible is not None and (factor := reducible(width, height)) >= 2:
            opened.draft(None, (max(1, int(width / factor)), max(1, int(height / factor))))
        opened.load()
        if (highest := _highest_level(opened)) is not None:
            opened.info["levels"] = highest
        ImageOps.exif_transpose(opened, in_place=True)  # or every picture is copied, turned or not
    turned = (opened.width < opened.height) != (width < height)
    return Opened(opened, height, width) if turned else Opened(opened, width, height)


def read_file(file: Path) -> Encoded:
    """Read what a picture file holds, not decoded yet.

    Raises:
        BadRecord: no such file, no plain one, or one that is too large.
    """
    name = clipped(file)
    _checked(file, name)
    try:
        return Encoded(file.read_bytes(), name)
    except OSError as error:
        raise BadRecord(f"{name}: {error.strerror or error}") from error


def kind_of(file: Encoded) -> str:
    """Pillow's name of a file's kind, one of `FORMATS`.

    Raises:
        BadRecord: it is none of these.
    """
    from PIL import Image

    with decoding(file.name), Image.open(io.BytesIO(file.data), formats=_readable()) as opened:
        kind = str(opened.format)
    return kind  # noqa: RET504 - within, mypy would miss a return


def picture_size(file: Encoded) -> tuple[int, int]:
    """Width and height as a picture file says them, which is not decoded.

    Raises:
        BadRecord: it is no picture of a kind that is read.
    """
    from PIL import Image

    with decoding(file.name), Image.open(io.BytesIO(file.data), formats=_readable()) as opened:
        width, height = opened.size
    return width, height


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a picture's data into a broken record; nothing else may run inside.

    Raises:
        BadRecord: with the reason that Pillow gave.
    """
    from PIL import UnidentifiedImageError

    try:
        yield
    except BadRecord:
        raise
    except UnidentifiedImageError as error:
        raise BadRecord(f"{name}: no picture of a known kind ({', '.join(FORMATS)})") from error
    except MemoryError as error:
        raise BadRecord(f"{name}: no memory to decode it") from error
    # Pillow's decoders raise what they come upon (RuntimeError, TypeError, struct.error, ...), and the next version
    # will raise something else. No code of ours or of a plugin runs here that this could hide.
    except Exception as error:
        reason = str(error) or f"Pillow gives up on it ({type(error).__name__})"
        raise BadRecord(reason if name in reason else f"{name}: {reason}") from error


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a picture without pixels, or with too many.

    Raises:
        BadRecord: says how many it has, and how many are allowed.
    """
    if width < 1 or height < 1:
        raise BadRecord(f"{name}: {width} x {height} pixels are no picture")
    if width * height > MOST_PIXELS:
        raise BadRecord(f"{name}: {width} x {height} pixels are more than {MOST_PIXELS:,}")


@cache
def _readable() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow can read. MPO, several JPEGs in one, is what opening a JPEG finds."""
    from PIL import AvifImagePlugin, Image, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin

    _ = AvifImagePlugin, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin  # the other kinds come with these
    Image.preinit()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _highest_level(opened: Any) -> int | None:
    """Find the level of white, where neither mode nor type of the pixels tells: some of Pillow's modes have several."""
    if opened.format == "PPM" and opened.mode == "I":
        return 65535
    twelve = opened.format == "TIFF" and opened.mode == "I;16" and opened.tag_v2.get(258) == (12,)
    return 4095 if twelve else None


def _checked(file: Path | Encoded, name: str) -> Path | io.BytesIO:
    """Open what Pillow may open: a file that ends, and not a pipe or a device."""
    if isinstance(file, Encoded):
        size, opened = len(file.data), io.BytesIO(file.data)
    else:
        try:
            state = file.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the path
            raise BadRecord(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        if stat.S_ISDIR(state.st_mode):
            raise BadRecord(f"{name}: Is a directory")
        if not stat.S_ISREG(state.st_mode):
            raise BadRecord(f"{name}: no plain file (a pipe or a device)")
        size = state.st_size
    if size > MOST_BYTES:
        raise BadRecord(f"{name}: a file of {size:,} bytes; more than {MOST_BYTES:,} are not read")
    return opened if isinstance(file, Encoded) else file
