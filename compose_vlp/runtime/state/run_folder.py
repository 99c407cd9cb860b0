"""The folder of a run: what it was, how it stands, and everything that it leaves behind."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock, write_atomic
from compose_vlp.tracking import versions
from compose_vlp.tracking.records import Ending

RunStatus: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

RUN_FILE = "run.json"
LOCK = "run.lock"
ARTIFACTS = "artifacts"
_UNUSED_S = 3600.0
"""Folders that a process filled when it died are taken away when they are so old."""
FORMAT = 1


@dataclass(frozen=True)
class RunInfo:
    """What `run.json` says of a run. Times are ISO 8601 in UTC.

    Attributes:
        format: Version of this file's layout.
        name: The folder's name at the beginning.
        blueprint: The blueprint's name.
        status: How the run stands; `RUNNING` holds only while a process works on it.
        seed: The seed of everything random.
        command: The command line.
        started: When it began.
        ended: When it ended; None while it runs, or where it died without a word.
        versions: Python and the packages that decide numbers.
        extra: What the run adds, such as the device or the step it has reached.
    """

    format: int
    name: str
    blueprint: str
    status: RunStatus
    seed: int
    command: tuple[str, ...]
    started: str
    ended: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """One run on disk. `create` makes one, `open` reads one, `claim` goes on with one that was read."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self._info = info
        self._lock = ProcessLock(path / LOCK)

    @classmethod
    def create(
        cls,
        blueprint: str,
        seed: int,
        command: Sequence[str],
        root: Path = Path("runs"),
        at: Path | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        fill: Callable[[Path], None] = lambda _: None,
    ) -> RunFolder:
        """Create a new folder, claimed by this process: `root/<blueprint>-<time>-<id>`, or `at` itself.

        It is filled aside, so that whoever finds `run.json` finds everything that a run begins with.

        Args:
            blueprint: its name.
            seed: of everything random.
            command: the command line.
            root: where folders without a name go.
            at: the folder, absent or without a run.
            extra: what `RunInfo.extra` has from the beginning.
            fill: writes what the run begins with into the folder that it is given.

        Raises:
            UserError: `at` is in use, or the folder cannot be made.
        """
        path = _new_path(root, blueprint) if at is None else at
        if (path / RUN_FILE).exists():
            raise _in_use(path)
        info = RunInfo(FORMAT, path.name, blueprint, "RUNNING", seed, tuple(command), _now(), versions=versions())
        info = replace(info, extra=dict(extra or {}))
        with _made(at or root):
            aside = _aside(path)
        try:
            fill(aside)
            write_atomic(aside / RUN_FILE, _as_json(info))
            folder = cls(path, info)
            with _made(at or root):
                folder._lock = _settle(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the run in a folder, to read.

        Raises:
            UserError: There is no run in it, or its `run.json` is damaged or of a later version.
        """
        return cls(path, _read_info(path))

    def claim(self) -> None:
        """Go on with this run: it is this process's until `finish`, or until the process ends.

        Raises:
            UserError: Another process works on it.
        """
        if not self._lock.try_acquire():
            raise _in_use(self.path)
        self._info = replace(_read_info(self.path), status="RUNNING", ended=None)
        self._write()

    @property
    def info(self) -> RunInfo:
        """Read what the run says of itself; one that claims to run while no process does has FAILED."""
        if self._info.status == "RUNNING" and not self._lock.is_held():
            return replace(self._info, status="FAILED")
        return self._info

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def reports(self) -> Path:
        return self.path / "reports"

    @property
    def artifacts(self) -> Path:
        """Give the folder of the resolved blueprint, its plan, source and picture."""
        return self.path / ARTIFACTS

    def update(self, **extra: Any) -> None:
        """Add to `RunInfo.extra`; the values are JSON."""
        self._info = replace(self._info, extra=self._info.extra | extra)
        self._write()

    def finish(self, status: Ending) -> None:
        """Say how the run ended, and let go of it."""
        self._info = replace(self._info, status=status, ended=_now())
        self._write()
        self._lock.release()

    def _write(self) -> None:
        write_atomic(self.path / RUN_FILE, _as_json(self._info))


def run_folders(root: Path) -> list[Path]:
    """List the run folders in `root`, the latest first."""
    if not root.is_dir():
        return []
    folders = [(file.stat().st_mtime, file.parent) for file in root.glob(f"*/{RUN_FILE}")]
    return [path for _, path in sorted(folders, reverse=True)]


def _read_info(path: Path) -> RunInfo:
    file = path / RUN_FILE
    if not file.is_file():
        hint = f"nothing has begun there; `compose-vlp train BLUEPRINT --out {path}` begins a run in it"
        hints = (*_recent(path.parent), *((hint,) if path.is_dir() else ()))
        raise UserError(f"{path} is not a run folder: it has no {RUN_FILE}", hints=hints)
    try:
        read = json.loads(file.read_text())
        if read["format"] > FORMAT:
            raise UserError(f"{file} was written by a later version of compose-vlp (format {read['format']})")
        return RunInfo(**read | {"command": tuple(read["command"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def _as_json(info: RunInfo) -> str:
    return json.dumps(asdict(info), indent=2) + "\n"


def _new_path(root: Path, blueprint: str) -> Path:
    """Choose a path that nobody else has, however many runs start in the same second."""
    name = re.sub(r"[^\w.-]+", "-", blueprint).strip("-.") or "run"
    return root / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"


def _aside(path: Path) -> Path:
    """Make a folder to fill, on the file system where `path` will be: beside it, or within, if it is there already."""
    parent = path if path.is_dir() else path.parent
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(".*.starting-*"):
        with suppress(FileNotFoundError):  # another process's, which is in its place by now
            if time.time() - old.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(old, ignore_errors=True)
    aside = parent / f".{path.name}.starting-{os.getpid()}-{secrets.token_hex(3)}"
    for name in ("checkpoints", "logs", "reports", ARTIFACTS):
        (aside / name).mkdir(parents=True)
    return aside


def _settle(aside: Path, path: Path) -> ProcessLock:
    """Bring a filled folder to its place, with a lock on it: by one rename, or file by file and `run.json` last.

    Raises:
        UserError: somebody else was faster.
    """
    if aside.parent != path:
        lock = ProcessLock(aside / LOCK)
        lock.acquire()
        try:
            aside.rename(path)
        except OSError as error:
            lock.release()
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _in_use(path) from None
            raise
        lock.moved(path / LOCK)
        return lock
    lock = ProcessLock(path / LOCK)
    if not lock.try_acquire():
        raise _in_use(path)
    if (path / RUN_FILE).exists():  # another run was here, from beginning to end, since we looked
        lock.release()
        raise _in_use(path)
    for entry in sorted(aside.iterdir(), key=lambda entry: entry.name == RUN_FILE):
        if entry.is_dir():
            shutil.copytree(entry, path / entry.name, dirs_exist_ok=True)
        else:
            entry.replace(path / entry.name)
    shutil.rmtree(aside, ignore_errors=True)
    return lock


@contextmanager
def _made(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot make a run folder at {where}: {error.strerror}") from error


def _in_use(path: Path) -> UserError:
    running = ProcessLock(path / LOCK).is_held()
    what = "another process is working on the run in" if running else "there is a run already in"
    hint = "wait until it is done" if running else f"`--resume {path}` goes on with it"
    return UserError(f"{what} {path}", hints=(hint, "or choose another `--out`"))


def _recent(root: Path) -> tuple[str, ...]:
    latest = run_folders(root)[:3]
    return (f"the latest runs here: {', '.join(map(str, latest))}",) if latest else ()


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
