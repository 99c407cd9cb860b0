"""Files and folders that settings name, found or told to be missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compose_vlp.data.source import BadRecord
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.files import is_file, is_folder, written_path

PICTURES = frozenset(
    {
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".dib",
        ".gif",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
    }
    | {".jpc", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Ends of the names of picture files."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def find_file(path: str) -> Path:
    """Find a file.

    Raises:
        UserError: it is not there; offers names like it.
    """
    file = written_path(path)
    if not is_file(file):
        near = (
            did_you_mean(file.name, (neighbour.name for neighbour in file.parent.iterdir()))
            if is_folder(file.parent)
            else ()
        )
        raise UserError(f"no file {path!r}", hints=[*near, f"looked from {Path.cwd()}"])
    return file


def find_folder(path: str | Path) -> Path:
    """Find a folder that holds something.

    Raises:
        UserError: it is not there, or empty.
    """
    folder = written_path(path)
    if not is_folder(folder):
        raise UserError(f"no folder {str(path)!r} of pictures", hints=[f"looked from {Path.cwd()}"])
    if next(folder.iterdir(), None) is None:
        raise UserError(f"the folder {str(path)!r} is empty", hints=["pictures were expected in it"])
    return folder


def find_files(patterns: str | tuple[str, ...]) -> list[Path]:
    """Find files by name, by `*` and `?`, or by `{0000..0099}`; in the order written, those of one pattern by name.

    Raises:
        UserError: a name that is not there, a pattern that fits nothing, or an address.
    """
    files: list[Path] = []
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        if ":" in pattern.split("/")[0]:
            raise UserError(f"{pattern!r} is no file of this machine", hints=["copy the files here first"])
        for name in _numbered(pattern):
            files += _globbed(name) if re.search(r"[*?\[]", name) else [find_file(name)]
    return files


def names_picture(text: str) -> bool:
    """Tell whether a text ends as the name of a picture file does."""
    return Path(text[-200:]).suffix.lower() in PICTURES


def picture_at(folder: Path, written: object, field: str, where: str) -> Path:
    """Return the path of a picture as a record writes it; `where` the record stands is for messages.

    Raises:
        BadRecord: it is no path.
    """
    if not isinstance(written, str) or not written:
        raise BadRecord(f"{where}: {field} is {written!r}, not the path of a picture")
    return folder / written


def reads_so(fields: Mapping[str, Any], only: Mapping[str, str]) -> bool:
    """Tell whether these fields hold what is wanted, as blueprints write it: true and false in lower case."""
    return all(_as_written(fields.get(field)) == value for field, value in only.items())


def no_records(file: Path, only: Mapping[str, str]) -> UserError:
    """Make the error for a file in which nothing is left."""
    condition = ", ".join(f"{field} {value!r}" for field, value in only.items())
    return UserError(f"{file} has no record" + (f" with {condition}" if condition else ""))


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbered(pattern: str) -> list[str]:
    """`a-{08..11}.tar` as a-08.tar, a-09.tar, a-10.tar, a-11.tar."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return [
        name for number in numbers for name in _numbered(f"{pattern[: match.start()]}{number}{pattern[match.end() :]}")
    ]


def _globbed(pattern: str) -> list[Path]:
    import glob

    files = sorted(Path(name) for name in glob.glob(str(written_path(pattern)), recursive=True))  # noqa: PTH207 - absolute patterns too
    if not files:
        raise UserError(f"no file fits {pattern!r}", hints=[f"looked from {Path.cwd()}"])
    return files
