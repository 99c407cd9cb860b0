"""Files that are whole or absent, texts of any encoding that says itself, and locks that end with their process."""

from __future__ import annotations

import codecs
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar


def written_path(text: str | Path) -> Path:
    """Read a path as somebody wrote it: `~` and `~name` at its beginning are home folders, where there are such."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # nobody is called so here
        return path


def lines_of(file: Path) -> list[str]:
    """List the lines of a text file that hold anything, without the white space around them.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    text = decoded(file.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    return [line.strip() for line in text.split("\n") if line.strip()]


def count_lines(path: str) -> int | None:
    """Count the lines of a text file that hold anything; None if it cannot be read (reported where it is needed)."""
    try:
        return len(lines_of(written_path(path)))
    except (OSError, ValueError):
        return None


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace `path` in one step: a reader sees the old content or the new, never a part.

    `durable` waits until the disk has it, so that it also survives a power cut.
    """
    write_together({path: content}, durable=durable)


def write_together(contents: Mapping[Path, str | bytes], *, durable: bool = True) -> None:
    """Replace files that belong together: none is replaced before the disk has taken all of them.

    Raises:
        OSError: the disk is full, say; the files are as they were.
    """
    aside = {path: path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(3)}") for path in contents}
    try:
        for path, temporary in aside.items():
            content = contents[path]
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
        for path, temporary in aside.items():
            temporary.replace(path)
    except BaseException:
        for temporary in aside.values():
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        for folder in {path.parent for path in contents}:
            fsync_directory(folder)


def fsync_directory(path: Path) -> None:
    """Wait until the disk knows the names in a directory: a rename is lost in a power cut otherwise."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def encoding_of(beginning: bytes) -> str:
    """Tell a text file's encoding by its first bytes: UTF-8, unless they are another byte-order mark."""
    marks = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
             (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
    return next((name for mark, name in marks if beginning.startswith(mark)), "utf-8-sig")


def decoded(raw: bytes) -> str:
    """Decode the text of a file, without its byte-order mark.

    Raises:
        UnicodeDecodeError: it is no text in UTF-8, nor in the encoding that its mark tells.
    """
    return raw.decode(encoding_of(raw))


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Make a folder to fill, which becomes `path` in one step when the block ends: readers see all of it or nothing."""
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(3)}")
    aside.mkdir(parents=True)
    try:
        yield aside
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


class ProcessLock:
    """A lock on a file, held by one process of the machine (and of others, where the file system has locks).

    POSIX record locks: the system frees them when the process ends, however it ends, and forked data workers do not
    inherit them (they would keep an `flock` alive after their parent was killed). They have two traps: a process never
    collides with itself, and closing any handle of the file frees the lock. So the locks of this process are noted
    here, and the file of a lock that it holds is not opened again. A forked process holds none of its parent's.
    """

    _held_here: ClassVar[set[Path]] = set()

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._handle: int | None = None

    @classmethod
    def forget_all(cls) -> None:
        """Know of no lock: those of the parent are not this process's."""
        cls._held_here.clear()

    def try_acquire(self) -> bool:
        """Take the lock if it is free. False when another process, or this one, holds it."""
        if self.path in self._held_here:
            return False
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        self._held_here.add(self.path)
        return True

    def acquire(self, poll_s: float = 0.1) -> None:
        """Wait for the lock."""
        while not self.try_acquire():
            time.sleep(poll_s)

    def release(self) -> None:
        """Let go of the lock, if it was taken by this object."""
        if self._handle is not None:
            self._held_here.discard(self.path)
            os.close(self._handle)
            self._handle = None

    def moved(self, path: Path) -> None:
        """Note the file's new path, after its folder was renamed; the lock is held on."""
        self._held_here.discard(self.path)
        self.path = path.resolve()
        self._held_here.add(self.path)

    def is_held(self) -> bool:
        """Tell whether any process, even this one, holds the lock. True where we may not ask (read-only folders)."""
        if self.path in self._held_here:
            return True
        if not self.path.exists():
            return False
        if not os.access(self.path, os.W_OK) or not self.try_acquire():
            return True
        self.release()
        return False

    def __enter__(self) -> ProcessLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


os.register_at_fork(after_in_child=ProcessLock.forget_all)


def is_file(path: str | Path) -> bool:
    """Tell whether a file is there; false for names that no file can have: too long, or with a NUL."""
    return os.path.isfile(path)  # noqa: PTH113 - `Path.is_file` raises for these


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is there; false for names that no folder can have."""
    return os.path.isdir(path)  # noqa: PTH112
