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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.kept import KeptFile
from compose_vlp.data.source import BadRecord
from compose_vlp.data.stores import StoreError, broken, read_bytes, write_bytes
from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic

log = logging.getLogger(__name__)

FORM: Final = 1
"""Of the cached indices: another form is not read."""
INDEXED_AT_ONCE: Final = 8
LARGEST_INDEX: Final = 1 << 30
COMPRESSED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
Whole: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Shard:
    """One tar file: record `i` has the members `starts[i]` to `starts[i + 1]`.

    `ending` is empty, or says how the file ends before it should: its last record then is broken. There always is one
    record at least, so that a shard without any is counted as a broken one.
    """

    path: Path | KeptFile
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
            UserError: the store that it lies in does not answer.
        """
        try:
            with self._open() as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise BadRecord(f"{self.path}: {error.strerror or error}") from error
        if len(data) < size:
            raise BadRecord(f"{self.path} ends within a record; it has been cut short since it was indexed")
        return data

    def fetch(self) -> None:
        """Bring a shard of a store to this machine.

        Raises:
            BadRecord: it is not there any more, or refused.
            UserError: the store does not answer.
        """
        self._open().close()

    def _open(self) -> BinaryIO:
        if isinstance(self.path, Path):
            return self.path.open("rb")
        try:
            while True:
                with suppress(FileNotFoundError):  # removed by another process between the two, to make room
                    return self.path.local().open("rb")
        except StoreError as error:
            raise broken(error) from None


def open_shard(path: Path | KeptFile, indices: Path | str) -> Shard:
    """Open a shard with its index: a kept one, unless the file has changed since; else read, and kept.

    Args:
        path: a file, or one of a store.
        indices: the folder that keeps indices, on this machine or in a store.

    Raises:
        UserError: the file is compressed, which forbids reading it anywhere but from its start.
        StoreError: the store does not give it.
    """
    if isinstance(path, Path):
        state, whose = path.stat(), str(path.resolve())
        stamp = f"{FORM} {state.st_size} {state.st_mtime_ns}"
    else:
        whose, stamp = path.stored.address, f"{FORM} {path.stored.size} {path.stored.version}"
    place = f"{hashlib.sha256(whose.encode()).hexdigest()[:24]}.npz"
    kept = _kept(path, indices, place, stamp)
    if kept is not None:
        return kept
    made = index_shard(path if isinstance(path, Path) else path.local())
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(made, name) for name in Shard.ARRAYS}
    np.savez(buffer, stamp=np.array(stamp), ending=np.array(made.ending), **arrays)
    try:
        _keep(indices, place, buffer.getvalue())
    except (OSError, StoreError) as error:
        log.warning("the index of %s is not kept for the next time: %s", path, error)
    return replace(made, path=path)


def opened_shards(files: Sequence[Path | KeptFile], indices: Path | str) -> list[Shard]:
    """Open shards with their indices; those of stores several at once, since each waits for its store.

    Raises:
        UserError: as `open_shard`; or a store does not give one of them.
    """
    if all(isinstance(file, Path) for file in files):
        return [open_shard(file, indices) for file in files]
    pool = ThreadPoolExecutor(INDEXED_AT_ONCE)
    try:
        return list(pool.map(lambda file: open_shard(file, indices), files))
    except StoreError as error:
        raise error.for_user() from None
    finally:
        pool.shutdown(cancel_futures=True)


def _keep(indices: Path | str, place: str, data: bytes) -> None:
    if isinstance(indices, str):
        return write_bytes(f"{indices}/{place}", data)
    indices.mkdir(parents=True, exist_ok=True)
    return write_atomic(indices / place, data, durable=False)


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


def _kept(path: Path | KeptFile, indices: Path | str, place: str, stamp: str) -> Shard | None:
    """Return the kept index of the shard as it is now."""
    import zipfile

    try:
        data = (
            read_bytes(f"{indices}/{place}", LARGEST_INDEX)
            if isinstance(indices, str)
            else (indices / place).read_bytes()
        )
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            if str(held["stamp"]) != stamp:
                return None
            return Shard(path, **{name: held[name] for name in Shard.ARRAYS}, ending=str(held["ending"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    except StoreError as error:
        if error.trouble == "absent":
            return None
        raise
