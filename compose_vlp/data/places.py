"""Files and folders that settings name, found or told to be missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from compose_vlp.data.kept import Kept, KeptFile, default_folder
from compose_vlp.data.source import BadRecord, Encoded
from compose_vlp.data.stores import (
    Stored,
    StoreError,
    StoreFolder,
    folder_of,
    is_address,
    list_files,
    look_up,
    shown_address,
)
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

LOOKED_UP_AT_ONCE: Final = 16
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def find_file(path: str) -> Path:
    """Find a file; one of a store is fetched to this machine.

    Raises:
        UserError: it is not there; offers names like it.
    """
    if is_address(path):
        return _fetched(path)
    file = written_path(path)
    if is_folder(file):
        raise UserError(f"{path!r} is a folder, where a file is expected", hints=[f"looked from {Path.cwd()}"])
    if not is_file(file):
        near = (
            did_you_mean(file.name, (neighbour.name for neighbour in file.parent.iterdir()))
            if is_folder(file.parent)
            else ()
        )
        raise UserError(f"no file {path!r}", hints=[*near, f"looked from {Path.cwd()}"])
    return file


def find_pictures(path: str | None, file: str) -> Path | StoreFolder:
    """Find the folder that paths of pictures start from: the one that is named, or else that of a file.

    Raises:
        UserError: it is not there, or empty; of a store, each picture tells so itself.
    """
    if path is not None:
        return StoreFolder(path) if is_address(path) else find_folder(path)
    return folder_of(file) if is_address(file) else written_path(file).parent


def find_folder(path: str | Path) -> Path:
    """Find a folder of this machine that holds something.

    Raises:
        UserError: it is not there, or empty.
    """
    if is_address(path):
        hints = ["tar shards, or a table of their paths, are read from stores"]
        raise UserError(f"the folder {shown_address(str(path))} is not on this machine", hints=hints)
    folder = written_path(path)
    if not is_folder(folder):
        raise UserError(f"no folder {str(path)!r} of pictures", hints=[f"looked from {Path.cwd()}"])
    if next(folder.iterdir(), None) is None:
        raise UserError(f"the folder {str(path)!r} is empty", hints=["pictures were expected in it"])
    return folder


def find_files(patterns: str | tuple[str, ...]) -> list[Path]:
    """Find files by name, by `*` and `?`, or by `{0000..0099}`; in the order written, those of one pattern by name.

    Files of stores are fetched to this machine.

    Raises:
        UserError: a name that is not there, or a pattern that fits nothing.
    """
    try:
        shards = find_shards(patterns, Kept(default_folder()))
        return [file if isinstance(file, Path) else file.local() for file in shards]
    except StoreError as error:
        raise error.for_user() from None


def find_shards(patterns: str | tuple[str, ...], kept: Kept) -> list[Path | KeptFile]:
    """Find files as `find_files` does; those of stores are looked up, and not fetched yet.

    Raises:
        UserError: as `find_files`.
    """
    files: list[Path | KeptFile] = []
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        if is_address(pattern):
            files += [KeptFile(stored, kept) for stored in find_stored(pattern)]
            continue
        if ":" in pattern.split("/")[0]:
            raise UserError(f"{pattern!r} is no file of this machine", hints=["copy the files here first"])
        for name in _numbered(pattern):
            files += _globbed(name) if re.search(r"[*?\[]", name) else [find_file(name)]
    return files


def find_stored(pattern: str) -> list[Stored]:
    """Look up the files of a store that an address with `*` and `?`, or with `{0000..0099}`, means.

    Raises:
        UserError: one is not there, the pattern fits nothing, or the store does not say.
    """
    names = _numbered(pattern)
    try:
        if "*" not in pattern and "?" not in pattern.rpartition("/")[2].partition(".")[0]:
            with ThreadPoolExecutor(min(LOOKED_UP_AT_ONCE, len(names))) as pool:
                return list(pool.map(look_up, names))
        files = [stored for name in names for stored in list_files(name)]
    except StoreError as error:
        raise error.for_user() from None
    if not files:
        raise UserError(f"no file fits {shown_address(pattern)}")
    return files


def _fetched(address: str) -> Path:
    try:
        return Kept(default_folder()).get(look_up(address))
    except StoreError as error:
        raise error.for_user() from None


def names_picture(text: str) -> bool:
    """Tell whether a text ends as the name of a picture file does."""
    return Path(text[-200:]).suffix.lower() in PICTURES


def picture_at(folder: Path | StoreFolder, written: object, field: str, where: str) -> Path | Callable[[], Encoded]:
    """Return the path of a picture as a record writes it, or what reads one of a store; `where` is for messages.

    Raises:
        BadRecord: it is no path.
    """
    if not isinstance(written, str) or not written:
        raise BadRecord(f"{where}: {field} is {written!r}, not the path of a picture")
    return folder / written


def reads_so(fields: Mapping[str, Any], only: Mapping[str, str]) -> bool:
    """Tell whether these fields hold what is wanted, as blueprints write it: true and false in lower case."""
    return all(_as_written(fields.get(field)) == value for field, value in only.items())


def no_records(file: str, only: Mapping[str, str]) -> UserError:
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
