"""The folder of a run: what it was, how it stands, and everything that it leaves behind."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
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
        self._lock = ProcessLock(path / "run.lock")

    @classmethod
    def create(
        cls, blueprint: str, seed: int, command: Sequence[str], root: Path = Path("runs"), at: Path | None = None
    ) -> RunFolder:
        """A new folder, claimed by this process: `root/<blueprint>-<time>-<id>`, or `at` itself.

        Raises:
            UserError: `at` is in use, or the folder cannot be made.
        """
        try:
            path = _new_folder(root, blueprint) if at is None else _given_folder(at)
            for name in ("checkpoints", "logs", "reports", "artifacts"):
                (path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make a run folder at {at or root}: {error.strerror}") from error
        info = RunInfo(FORMAT, path.name, blueprint, "RUNNING", seed, tuple(command), _now(), versions=versions())
        folder = cls(path, info)
        if not folder._lock.try_acquire():
            raise _in_use(path)
        if (path / RUN_FILE).exists():  # another run was here, from beginning to end, since we looked
            folder._lock.release()
            raise _in_use(path)
        folder._write()
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run in a folder, to read.

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
        """What the run says of itself; one that claims to run while no process does has FAILED."""
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
        """The resolved blueprint, its plan, source and picture."""
        return self.path / "artifacts"

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
        write_atomic(self.path / RUN_FILE, json.dumps(asdict(self._info), indent=2) + "\n")


def run_folders(root: Path) -> list[Path]:
    """The run folders in `root`, the latest first."""
    if not root.is_dir():
        return []
    found = [(file.stat().st_mtime, file.parent) for file in root.glob(f"*/{RUN_FILE}")]
    return [path for _, path in sorted(found, reverse=True)]


def _read_info(path: Path) -> RunInfo:
    file = path / RUN_FILE
    if not file.is_file():
        raise UserError(f"{path} is not a run folder: it has no {RUN_FILE}", hints=_recent(path.parent))
    try:
        read = json.loads(file.read_text())
        if read["format"] > FORMAT:
            raise UserError(f"{file} was written by a later version of compose-vlp (format {read['format']})")
        return RunInfo(**read | {"command": tuple(read["command"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def _new_folder(root: Path, blueprint: str) -> Path:
    """A folder that nobody else has, however many runs start in the same second."""
    root.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", blueprint).strip("-.") or "run"
    while True:
        path = root / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path


def _given_folder(path: Path) -> Path:
    if (path / RUN_FILE).exists():
        raise _in_use(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _in_use(path: Path) -> UserError:
    running = ProcessLock(path / "run.lock").is_held()
    what = "another process is working on the run in" if running else "there is a run already in"
    hint = "wait until it is done" if running else f"`--resume {path}` goes on with it"
    return UserError(f"{what} {path}", hints=(hint, "or choose another `--out`"))


def _recent(root: Path) -> tuple[str, ...]:
    found = run_folders(root)[:3]
    return (f"the latest runs here: {', '.join(map(str, found))}",) if found else ()


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
