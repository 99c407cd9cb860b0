"""How a run's folder comes to be: filled aside, and brought to its place so that nothing that stood there is lost."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock

RUN_FILE: Final = "run.json"
LOCK: Final = "run.lock"
ARTIFACTS: Final = "artifacts"
FOLDERS: Final = ("checkpoints", "logs", "reports", ARTIFACTS)
"""Folders that every run has from its beginning."""
ENTRIES: Final = frozenset(
    (RUN_FILE, LOCK, *FOLDERS, "blueprint.yaml", "plugins", "plugins.new", "tables", "tokenizers", "tracking")
)
"""All that a run writes at the top of its folder; what else is there is the user's."""
SETTLING: Final = ".run-settling"
"""Within a user's folder: what a run that is beginning brings. While it is there, all of `ENTRIES` are the run's."""
_UNUSED_S: Final = 3600.0
"""Folders that a process filled when it died are taken away when they are so old."""


def in_the_way(path: Path) -> list[str]:
    """List what of the user's in a folder without a run a new run would write over."""
    if not path.is_dir() or (path / SETTLING).is_dir():
        return []
    return sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name in ENTRIES - {LOCK} and not (entry.is_dir() and not any(entry.iterdir()))
    )


def folder_to_fill(path: Path) -> Path:
    """Make a folder to fill, on the file system where `path` will be: beside it, or within, if it is there already."""
    parent = path if path.is_dir() else path.parent
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(".*.starting-*"):
        with suppress(FileNotFoundError):  # another process's, which is in its place by now
            if time.time() - old.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(old, ignore_errors=True)
    aside = parent / f".{path.name}.starting-{os.getpid()}-{secrets.token_hex(3)}"
    for name in FOLDERS:
        (aside / name).mkdir(parents=True)
    return aside


def settle(aside: Path, path: Path) -> ProcessLock:
    """Bring a filled folder to its place, with a lock on it: by one rename, or file by file and `run.json` last.

    Raises:
        UserError: somebody else was faster, or something is in the way.
    """
    if aside.parent != path:
        lock = ProcessLock(aside / LOCK)
        lock.acquire()
        try:
            aside.rename(path)
        except OSError as error:
            lock.release()
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise in_use(path) from None
            raise
        lock.moved(path / LOCK)
        return lock
    lock = ProcessLock(path / LOCK)
    if not lock.try_acquire():
        raise in_use(path)
    try:
        _settle_within(aside, path)
    except BaseException:
        lock.release()
        raise
    return lock


def _settle_within(aside: Path, path: Path) -> None:
    if (path / RUN_FILE).exists():  # another run was here, from beginning to end, since we looked
        raise in_use(path)
    refuse_in_the_way(path)
    settling = path / SETTLING
    if settling.is_dir():  # of a process that was killed here; what it brought is written over
        shutil.copytree(aside, settling, dirs_exist_ok=True)
        shutil.rmtree(aside)
    else:
        aside.rename(settling)
    for entry in sorted(settling.iterdir(), key=lambda entry: entry.name == RUN_FILE):
        if entry.is_dir():
            shutil.copytree(entry, path / entry.name, dirs_exist_ok=True)
        else:
            entry.replace(path / entry.name)
    shutil.rmtree(settling, ignore_errors=True)


def take_away(path: Path, *, folder: bool) -> None:
    """Take away all that a run wrote, and the `folder` itself where nothing else is in it."""
    settling = path / SETTLING
    settling.mkdir(exist_ok=True)  # whoever is killed here leaves what may be written over
    for name in sorted(ENTRIES - {LOCK}, key=lambda name: name != RUN_FILE):
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()
    shutil.rmtree(settling, ignore_errors=True)
    (path / LOCK).unlink(missing_ok=True)
    if folder:
        with suppress(OSError):
            path.rmdir()


def refuse_in_the_way(path: Path) -> None:
    """Refuse to write over what is the user's.

    Raises:
        UserError: something of it is called as what a run writes.
    """
    names = in_the_way(path)
    if names:
        raise UserError(
            f"{path} has {', '.join(names)}, which a run would write over, and no run is in it",
            hints=["choose another `--out`, or move what is there"],
        )


def in_use(path: Path) -> UserError:
    """Say that a run is in the folder already."""
    running = ProcessLock(path / LOCK).is_held()
    what = "another process is working on the run in" if running else "there is a run already in"
    hint = "wait until it is done" if running else f"`--resume {path}` goes on with it"
    return UserError(f"{what} {path}", hints=(hint, "or choose another `--out`"))


@contextmanager
def made(where: Path) -> Iterator[None]:
    """Say in words why a folder cannot be made.

    Raises:
        UserError: the system says no.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot make a run folder at {where}: {error.strerror}") from error
