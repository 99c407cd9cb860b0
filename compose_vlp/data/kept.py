"""Files of stores on this machine's disk: fetched once for all processes, whole or absent, the oldest removed."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from compose_vlp.data import stores
from compose_vlp.data.source import BadRecord
from compose_vlp.data.stores import Stored, StoreError
from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock
from compose_vlp.readable import storage

log = logging.getLogger(__name__)

ROOM: Final = 50_000_000_000
"""Bytes of disk for files of stores, where nobody says how many."""
FETCHERS: Final = 4
"""Files that are fetched ahead at once."""
_USED_AGAIN_S: Final = 60.0
_LEFT_OVER_S: Final = 3600.0


@dataclass(frozen=True)
class Kept:
    """A folder of files that were fetched, which takes `room` bytes at most; of several processes, too."""

    folder: Path
    room: int = ROOM
    _troubles: dict[str, StoreError] = field(default_factory=dict, compare=False, repr=False)
    """Files that are not there or refused, so that each of their records does not ask again."""

    def get(self, stored: Stored) -> Path:
        """Give the place of a file on this machine, and fetch it if it is not there yet.

        Raises:
            StoreError: the store does not give it.
            UserError: there is no room, or the folder cannot be written.
        """
        path = self._path(stored)
        if self._is_there(path):
            return path
        if stored.address in self._troubles:
            raise self._troubles[stored.address]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ProcessLock(path.with_name(path.name + ".lock")):
                if not self._is_there(path):
                    self._make_room(stored)
                    _fetch(stored, path)
        except StoreError as error:
            if error.trouble != "failing":
                self._troubles[stored.address] = error
            raise
        except OSError as error:
            raise UserError(
                f"{stored} cannot be kept in {self.folder}: {error.strerror or error}",
                hints=["`cache:` of the data names another folder, `keep_gb:` how much it may hold"],
            ) from error
        return path

    def _path(self, stored: Stored) -> Path:
        name = hashlib.sha256(f"{stored.address} {stored.size} {stored.version}".encode()).hexdigest()[:16]
        return self.folder / name / (stored.name or "file")

    def _is_there(self, path: Path) -> bool:
        """Tell whether a file is here, and note that it is used."""
        try:
            if time.time() - path.stat().st_mtime > _USED_AGAIN_S:
                os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _make_room(self, stored: Stored) -> None:
        """Remove the files that were not used for the longest time, until there is room for this one."""
        files = []
        for file in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another process makes room, too
                state = file.stat()
                if file.suffix == ".part" and time.time() - state.st_mtime > _LEFT_OVER_S:
                    file.unlink()
                elif file.suffix not in (".lock", ".part"):
                    files.append((state.st_mtime, state.st_size, file))
        taken = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if taken + max(stored.size, 0) <= self.room:
                return
            file.unlink(missing_ok=True)
            taken -= size


@dataclass(frozen=True)
class KeptFile:
    """One file of a store, and where it is kept."""

    stored: Stored
    kept: Kept

    def local(self) -> Path:
        """Give its place on this machine; see `Kept.get`."""
        return self.kept.get(self.stored)

    def __str__(self) -> str:
        return str(self.stored)


class ReadAhead:
    """Fetches in threads what will be read, in the order in which it is asked for.

    Trouble is left to who reads the thing, and meets it again.
    """

    def __init__(self, fetch: Callable[[int], object]) -> None:
        self._fetch = fetch
        self._waiting: set[int] = set()
        self._closed = False
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for _ in range(FETCHERS):
            threading.Thread(target=self._work, daemon=True, name="read-ahead").start()

    def ask(self, things: Iterable[int]) -> None:
        """Ask for these, but for those that are waited for."""
        for thing in things:
            if thing not in self._waiting:
                self._waiting.add(thing)
                self._queue.put(thing)

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        for _ in range(FETCHERS):
            self._queue.put(None)

    def _work(self) -> None:
        while (thing := self._queue.get()) is not None and not self._closed:
            with suppress(StoreError, BadRecord, UserError):
                self._fetch(thing)
            self._waiting.discard(thing)


def default_folder() -> Path:
    """Return the user's folder for what can be fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compose-vlp" / "stores"


def _fetch(stored: Stored, path: Path) -> None:
    """Copy a file to this machine; what broke off goes on where it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    began, warned = time.monotonic(), False
    try:
        with part.open("wb") as target:
            for size in _blocks(stored, target):
                taken = time.monotonic() - began
                if taken > stores.SLOW and size < taken * 1e6 and not warned:
                    warned = True
                    log.warning("%s is slow: %s in %.0f s", stored, storage(size), taken)
        size = part.stat().st_size
        if 0 <= stored.size != size:
            raise StoreError(stored.address, "unusable", f"{size:,} bytes came, where the store says {stored.size:,}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _blocks(stored: Stored, target: BinaryIO) -> Iterator[int]:
    """Copy a file block by block, and yield the bytes so far."""
    stream: Any = None

    def block() -> bytes:
        nonlocal stream
        opened, stream = stream, None  # one that broke off is not read again
        if opened is None:
            try:
                opened = stores.open_stored(stored, target.tell())
            except ValueError:  # a stream that cannot seek: from the beginning
                target.seek(0)
                target.truncate()
                opened = stores.open_stored(stored, 0)
        data: bytes = opened.read(stores.BLOCK)
        stream = opened
        return data

    while data := stores.patiently(stored.address, block):
        target.write(data)
        yield target.tell()
    stream.close()
