"""The outbox: a file of lines that one process adds to and another reads, each at its own pace."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compose_vlp.tracking.records import Record, StatusChange, decode, encode

logger = logging.getLogger(__name__)

_WAITING_LINES = 100_000
_TAIL_BYTES = 4096


class Outbox:
    """The writing end. Adding a record costs some tens of microseconds and never fails for want of disk.

    Lines go straight to the system, unbuffered, so they outlive this process however it ends; only `flush` waits for
    the disk. Lines that the disk has no room for wait in memory and are tried again with each later one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = _end_of_last_line(self._handle)
        self._waiting: deque[bytes] = deque(maxlen=_WAITING_LINES)
        self.dropped = 0
        self.closed = False

    def add(self, record: Record) -> None:
        if self.closed:
            raise RuntimeError("the run has ended, and says nothing more")
        if len(self._waiting) == _WAITING_LINES:
            self.dropped += 1
        self._waiting.append(encode(record))
        self._write_waiting()

    def flush(self) -> None:
        """Wait until the disk has every line."""
        self._write_waiting()
        try:
            os.fsync(self._handle)
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        self.flush()
        os.close(self._handle)
        self.closed = True

    @property
    def waiting(self) -> int:
        """How many lines the disk has not taken."""
        return len(self._waiting)

    def _write_waiting(self) -> None:
        was_stuck = len(self._waiting) > 1
        try:
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            if not was_stuck:
                self._complain(error)

    def _write(self, line: bytes) -> None:
        written = os.pwrite(self._handle, line, self._end)
        if written < len(line):  # a part of a line would spoil the next one
            os.ftruncate(self._handle, self._end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._end += written

    def _complain(self, error: OSError) -> None:
        logger.warning(
            "cannot write %s (%s); training goes on, and metrics wait in memory until it can be written again",
            self._path,
            error.strerror,
        )


@dataclass(frozen=True)
class Entry:
    """One line as read: its record (None where it is damaged), and the place after it."""

    record: Record | None
    end: int


def read(path: Path, start: int, limit_bytes: int = 1 << 20) -> Iterator[Entry]:
    """The whole lines of `path` from byte `start` on, at most about `limit_bytes` of them."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        place = start
        while place - start < limit_bytes:
            line = file.readline()
            if not line.endswith(b"\n"):
                return
            place += len(line)
            yield Entry(decode(line), place)


def count_lines(path: Path, start: int) -> int:
    """How many whole lines follow byte `start`."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(start)
        return sum(line.endswith(b"\n") for line in file)


def is_line_start(path: Path, place: int) -> bool:
    """Tell whether `place` follows a whole line. It does not where a power cut took the end of the file."""
    if place == 0:
        return True
    if not path.exists() or place > path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(place - 1)
        return file.read(1) == b"\n"


def last_record(path: Path) -> Record | None:
    """The record of the last whole line, as far as it is a short one (a status always is)."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = [line for line in file.readlines() if line.endswith(b"\n")]
    return decode(lines[-1]) if lines else None


def has_ended(path: Path) -> bool:
    """Tell whether the last thing that training said is how it ended."""
    last = last_record(path)
    return isinstance(last, StatusChange) and last.status != "RUNNING"


def _end_of_last_line(handle: int) -> int:
    """Cut away a line that a dying process left half written, and return where the next one goes."""
    size = os.fstat(handle).st_size
    end = size
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        line_break = os.pread(handle, end - start, start).rfind(b"\n")
        if line_break >= 0:
            end = start + line_break + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
    return end
