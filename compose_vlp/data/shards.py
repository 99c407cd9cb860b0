"""Where everything lies in a tar shard, so that any record of it can be had at once.

A record of the WebDataset form is a run of members of one name that differ in what follows the name's first dot:
`0017.jpg`, `0017.txt`, `0017.json`. The headers of a shard are read once; where its members lie is kept in a cache.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.source import BadRecord
from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic

log = logging.getLogger(__name__)

FORM: Final = 1
"""Of the cached indices: another form is not read."""
COMPRESSED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
Whole: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Shard:
    """One tar file: record `i` has the members `starts[i]` to `starts[i + 1]`.

    `ending` is empty, or says how the file ends before it should: its last record then is broken. There always is one
    record at least, so that a shard without any is counted as a broken one.
    """

    path: Path
    keys: NDArray[np.bytes_]
    starts: Whole
    offsets: Whole
    sizes: Whole
    kinds: NDArray[np.str_]
    ending: str = ""

    ARRAYS: ClassVar = ("keys", "starts", "offsets", "sizes", "kinds")

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, index: int) -> dict[str, tuple[int, int]]:
        """Offset and size of each member of a record by its ending (`jpg`, `txt`).

        Raises:
            BadRecord: the shard ends within it, or it has two members of one ending.
        """
        name = f"{self.path}:{self.key(index)}"
        if self.ending and index == len(self) - 1:
            raise BadRecord(f"{name}: {self.ending}")
        places = range(int(self.starts[index]), int(self.starts[index + 1]))
        members = {str(self.kinds[at]): (int(self.offsets[at]), int(self.sizes[at])) for at in places}
        if len(members) < len(places):
            raise BadRecord(f"{name}: two members of one ending")
        return members

    def key(self, index: int) -> str:
        """Return the name that the members of a record share."""
        return bytes(self.keys[index]).decode("utf-8", "replace")

    def read(self, offset: int, size: int) -> bytes:
        """Read what a member holds. Opened anew each time: an open file would share its place among forked workers.

        Raises:
            BadRecord: the shard cannot be read there, or has been cut short since it was indexed.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise BadRecord(f"{self.path}: {error.strerror or error}") from error
        if len(data) < size:
            raise BadRecord(f"{self.path} ends within a record; it has been cut short since it was indexed")
        return data


def open_shard(path: Path, cache: Path) -> Shard:
    """Open a shard with its index: from the cache, unless the file has changed since; else read, and put there.

    Raises:
        UserError: the file is compressed, which forbids reading it anywhere but from its start.
    """
    state = path.stat()
    stamp = f"{FORM} {state.st_size} {state.st_mtime_ns}"
    place = cache / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]}.npz"
    kept = _kept(path, place, stamp)
    if kept is not None:
        return kept
    made = index_shard(path)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(made, name) for name in Shard.ARRAYS}
    np.savez(buffer, stamp=np.array(stamp), ending=np.array(made.ending), **arrays)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(place, buffer.getvalue(), durable=False)
    except OSError as error:
        log.warning("the index of %s is not kept for the next time: %s", path, error)
    return made


def default_cache() -> Path:
    """Return the user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compose-vlp" / "shards"


def index_shard(path: Path) -> Shard:
    """Read the headers of a shard, and group its members to records."""
    with path.open("rb") as stream:
        if stream.read(6).startswith(COMPRESSED):
            raise UserError(
                f"{path} is compressed: its records can only be had one after the other",
                hints=["unpack it; pictures hardly shrink", f"as in `gunzip {path.name}`"],
            )
    keys: list[bytes] = []
    starts: list[int] = []
    members: list[tuple[int, int, str]] = []
    ending = ""
    try:
        for key, kind, offset, size in _members(path):
            if not keys or keys[-1] != key:
                keys.append(key)
                starts.append(len(members))
            members.append((offset, size, kind))
    except tarfile.TarError as error:
        ending = f"the shard ends early, here: {error}" if keys else f"no tar file: {error}"
    if not keys:
        keys, starts, ending = [b""], [0], ending or "the shard is empty"
    offsets, sizes, kinds = zip(*members, strict=True) if members else ((), (), ())
    return Shard(
        path,
        np.array(keys, dtype=np.bytes_),
        np.array([*starts, len(members)], np.int64),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        np.array(kinds, dtype=np.str_),
        ending,
    )


def _members(path: Path) -> Iterator[tuple[bytes, str, int, int]]:
    """Name, ending, offset and size of the files in a tar.

    Raises:
        tarfile.TarError: the file is no tar, or ends before its end mark.
    """
    whole = path.stat().st_size
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]  # or all headers stay in memory
            folder, _, name = member.name.rpartition("/")
            stem, dot, kind = name.partition(".")
            if not member.isreg() or not stem or not dot:
                continue  # folders, hidden files: as the webdataset library
            key = f"{folder}/{stem}" if folder else stem
            yield key.encode("utf-8", "surrogateescape"), kind.lower(), member.offset_data, member.size
            if member.offset_data + member.size > whole:
                raise tarfile.ReadError(f"{member.name} should have {member.size} bytes")
        end = tar.offset
    with path.open("rb") as stream:
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("there is no end mark")


def _kept(path: Path, place: Path, stamp: str) -> Shard | None:
    """Return what the cache has of the shard as it is now."""
    import zipfile

    try:
        with np.load(place, allow_pickle=False) as held:
            if str(held["stamp"]) != stamp:
                return None
            return Shard(path, **{name: held[name] for name in Shard.ARRAYS}, ending=str(held["ending"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
