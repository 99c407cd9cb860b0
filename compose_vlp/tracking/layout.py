"""Where tracking keeps its files in a run folder, and the settings that the sender reads there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from compose_vlp.files import ProcessLock, write_atomic

SQLITE: Final = "sqlite:///"


@dataclass(frozen=True)
class TrackSettings:
    """The settings of a run's tracking.

    Attributes:
        experiment: The MLflow experiment: the blueprint's name.
        run_name: How the run is called there.
        uri: The tracking store; None is `MLFLOW_TRACKING_URI`, or else `mlflow.db` in `working_directory`.
        working_directory: Where the default store lies.
        system_metrics_s: Seconds between two looks at processor, memory and GPU; 0 is never.
        key: A name for the run before MLflow has named it; one that nobody else has is made up if left out.
        parent: The key of the run that this one belongs to, such as a sweep's.
    """

    experiment: str
    run_name: str
    uri: str | None = None
    working_directory: Path = field(default_factory=Path.cwd)
    system_metrics_s: float = 10.0
    key: str | None = None
    parent: str | None = None

    def resolved_uri(self) -> str:
        """The tracking store; a relative SQLite path is made absolute, since the sender may run elsewhere."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(self.working_directory)
        prefix, scheme, path = uri.partition(SQLITE)
        if prefix or not scheme or path.startswith("/"):
            return uri
        return f"{SQLITE}{self.working_directory.resolve() / path}"


def default_uri(working_directory: Path) -> str:
    """The embedded store of a working directory."""
    return f"{SQLITE}{working_directory.resolve() / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


@dataclass(frozen=True)
class Target:
    """The destination of a run, settled when it is first tracked.

    Attributes:
        key: A name for the run before MLflow has named it; found by it where the answer to its making was lost.
        started_ms: When the run began, in milliseconds since 1970.
        parent: The key of the run that it belongs to.
    """

    key: str
    started_ms: int
    uri: str
    experiment: str
    run_name: str
    system_metrics_s: float
    parent: str | None = None


@dataclass(frozen=True)
class TrackFolder:
    """The files of tracking in one run folder."""

    run_folder: Path

    @property
    def path(self) -> Path:
        return self.run_folder / "tracking"

    @property
    def outbox(self) -> Path:
        """Give the file of what the training process records."""
        return self.path / "outbox.jsonl"

    @property
    def system(self) -> Path:
        """Give the file of what the sender measures of the machine."""
        return self.path / "system.jsonl"

    @property
    def state(self) -> Path:
        """How far the sender is."""
        return self.path / "state.json"

    @property
    def refused(self) -> Path:
        """Records that MLflow would not take, with its reasons."""
        return self.path / "refused.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "sender.log"

    @property
    def copies(self) -> Path:
        """Artifacts from outside the run folder, as they were when they were logged."""
        return self.path / "artifacts"

    @property
    def models(self) -> Path:
        """Models in MLflow's format, until they have been sent."""
        return self.path / "models"

    @property
    def writer_lock(self) -> ProcessLock:
        """Held by the training process while it may add to the outbox."""
        return ProcessLock(self.path / "writer.lock")

    @property
    def sender_lock(self) -> ProcessLock:
        """Held by the one process that sends."""
        return ProcessLock(self.path / "sender.lock")

    def write_target(self, target: Target) -> None:
        write_atomic(self.path / "target.json", json.dumps(asdict(target), indent=2))

    def read_target(self) -> Target | None:
        """Read where this run is tracked; None where it never was."""
        path = self.path / "target.json"
        return Target(**json.loads(path.read_text())) if path.is_file() else None
