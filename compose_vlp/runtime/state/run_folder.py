"""The folder of a run: what it was, how it stands, and everything that it leaves behind."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock, write_atomic
from compose_vlp.runtime.state.new_folder import (
    ARTIFACTS,
    LOCK,
    RUN_FILE,
    folder_to_fill,
    in_use,
    made,
    refuse_in_the_way,
    settle,
    take_away,
)
from compose_vlp.tracking import versions
from compose_vlp.tracking.records import Ending

RunStatus: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

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

    def __init__(self, path: Path, info: RunInfo, *, new: bool = False) -> None:
        self.path = path
        self.new = new
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

        It is filled aside, so that whoever finds `run.json` finds everything that a run begins with. What a folder has
        that no run writes stays as it is.

        Args:
            blueprint: its name.
            seed: of everything random.
            command: the command line.
            root: where folders without a name go.
            at: the folder, absent or without a run.
            extra: what `RunInfo.extra` has from the beginning.
            fill: writes what the run begins with into the folder that it is given.

        Raises:
            UserError: `at` is in use or has what a run would write over, or the folder cannot be made.
        """
        path = _new_path(root, blueprint) if at is None else at
        if (path / RUN_FILE).exists():
            raise in_use(path)
        refuse_in_the_way(path)
        new = not path.is_dir()
        info = RunInfo(
            FORMAT, path.resolve().name, blueprint, "RUNNING", seed, tuple(command), _now(), versions=versions()
        )
        info = replace(info, extra=dict(extra or {}))
        with made(at or root):
            aside = folder_to_fill(path)
        try:
            fill(aside)
            write_atomic(aside / RUN_FILE, _as_json(info))
            folder = cls(path, info, new=new)
            with made(at or root):
                folder._lock = settle(aside, path)
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
            raise in_use(self.path)
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

    def take_away(self) -> None:
        """Undo `create`: what was there before stays."""
        take_away(self.path, folder=self.new)
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
        files = (file for below in ("*", "trials/*/run") for file in sorted(path.glob(f"{below}/{RUN_FILE}")))
        within = [str(file.parent) for file in files]
        hint = f"nothing has begun there; `compose-vlp train BLUEPRINT --out {path}` begins a run in it"
        hints = (*_recent(path.parent), *((hint,) if path.is_dir() else ()))
        if within:
            hints = (f"runs below it: {', '.join(within[:3])}{', ...' * (len(within) > 3)}",)
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


def _recent(root: Path) -> tuple[str, ...]:
    latest = run_folders(root)[:3]
    return (f"the latest runs here: {', '.join(map(str, latest))}",) if latest else ()


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
