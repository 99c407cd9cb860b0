"""The tracker of a run: it writes to the outbox, starts the sender, and at the end waits for it, but not for ever."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock
from compose_vlp.tracking.layout import Target, TrackFolder, TrackSettings
from compose_vlp.tracking.names import store_name
from compose_vlp.tracking.outbox import Outbox
from compose_vlp.tracking.records import Artifact, DataSet, Ending, Metrics, Model, Params, StatusChange, Tags
from compose_vlp.tracking.remains import remains
from compose_vlp.tracking.state import SenderState
from compose_vlp.tracking.tracker import Param, ending_of

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0

# The package's own folder goes last: the sender finds what training found, and nothing of the working directory.
_BOOT = """
import sys; sys.path.append(sys.argv[1])
from compose_vlp.ending import end_with
def send():
    from compose_vlp.tracking.sender import main
    return main(sys.argv[2:])
end_with(send)
"""


class OutboxTracker:
    """Implements `Tracker`. Make one with `start`, once per run folder at a time."""

    def __init__(self, folder: TrackFolder, lock: ProcessLock) -> None:
        self._folder = folder
        self._lock = lock
        self._outbox = Outbox(folder.outbox)
        self._sender: subprocess.Popen[bytes] | None = None
        self._message: str | None = None

    @classmethod
    def start(cls, run_folder: Path, settings: TrackSettings) -> Self:
        """Track the run in `run_folder`; a run that was tracked before goes on as the same run in MLflow.

        Raises:
            UserError: Another process tracks this run.
        """
        folder = TrackFolder(run_folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = folder.writer_lock
        if not lock.try_acquire():
            raise UserError(
                f"another process is working on the run in {run_folder}",
                hints=("wait until it is done, or start a run of its own",),
            )
        _settle_target(folder, settings)
        tracker = cls(folder, lock)
        tracker._outbox.add(StatusChange("RUNNING", _now_ms()))
        tracker._start_sender()
        return tracker

    @property
    def run_id(self) -> str | None:
        return SenderState.read(self._folder.state).run_id

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._outbox.add(Metrics(step, _now_ms(), {key: float(value) for key, value in values.items()}))

    def params(self, values: Mapping[str, Param]) -> None:
        self._outbox.add(Params({key: str(value) for key, value in values.items()}))

    def tags(self, values: Mapping[str, str]) -> None:
        self._outbox.add(Tags(dict(values)))

    def artifacts(self, paths: Mapping[str, Path]) -> None:
        """Note files and folders to send.

        Raises:
            FileNotFoundError: A path is not there.
        """
        for name, path in paths.items():
            if not path.exists():
                raise FileNotFoundError(f"artifact {name!r}: no {path}")
            kept = self._kept(store_name(name), path.resolve())
            if kept is not None:
                self._outbox.add(Artifact(store_name(name), str(kept)))

    def data_sets(self, data_sets: Sequence[DataSet]) -> None:
        for data_set in data_sets:
            self._outbox.add(data_set)

    def model(self, model: Model) -> None:
        self._outbox.add(model)

    def flush(self) -> None:
        self._outbox.flush()

    def finish(self, status: Ending, wait_s: float = 30.0) -> str | None:
        if self._outbox.closed:
            return self._message
        self._outbox.add(StatusChange(status, _now_ms()))
        self._outbox.close()
        self._lock.release()
        self._wait_for_sender(wait_s)
        self._message = remains(self._folder, lost=self._outbox.waiting + self._outbox.dropped)
        return self._message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        message = self.finish(ending_of(kind))
        if message:
            logger.warning(message)

    def _kept(self, name: str, path: Path) -> Path | None:
        """Give the path for the sender, relative to the run folder; None where the disk is too full to keep a copy."""
        run_folder = self._folder.run_folder.resolve()
        if path.is_relative_to(run_folder):
            return path.relative_to(run_folder)
        copy = self._folder.copies / name
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copy, dirs_exist_ok=True)
            else:
                shutil.copy2(path, copy)
        except OSError as error:
            logger.warning("artifact %r cannot be kept for MLflow (%s); training goes on", name, error)
            return None
        return copy.resolve().relative_to(run_folder)

    def _start_sender(self) -> None:
        """Start the sender in a session of its own: Ctrl-C at the terminal is meant for training alone."""
        package_root = str(Path(__file__).resolve().parents[2])
        run_folder = str(self._folder.run_folder.resolve())
        command = [sys.executable, "-P", "-c", _BOOT, package_root, run_folder, "--parent", str(os.getpid())]
        try:
            with self._folder.log.open("ab") as log:
                self._sender = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            logger.warning(
                "the sender to MLflow cannot be started (%s); what is logged is kept in %s", error, self._folder.path
            )

    def _wait_for_sender(self, wait_s: float) -> None:
        if self._sender is None:
            return
        started = time.monotonic()
        try:
            self._sender.wait(min(_PATIENCE_S, wait_s))
        except subprocess.TimeoutExpired:
            pass
        except KeyboardInterrupt:
            wait_s = 0.0
        try:
            if wait_s > _PATIENCE_S and self._sender.poll() is None:
                logger.info("waiting for MLflow, at most %.0f seconds (Ctrl-C to send the rest later)", wait_s)
            self._sender.wait(max(0.0, started + wait_s - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._sender.kill()
            self._sender.wait()


def add_to_run(
    run_folder: Path, values: Mapping[str, float], step: int, artifacts: Mapping[str, Path], status: Ending
) -> str | None:
    """Add what was measured later to a run that has ended; gives what is to be said where something did not arrive.

    Nothing is done for a run that was never tracked. Of two values for a name and a step the first stands.

    Args:
        run_folder: The run.
        values: Metrics by name.
        step: Of the weights that were measured.
        artifacts: Files by the names that they get.
        status: How the run ended, which stays as it is.

    Raises:
        UserError: the run is still training, or another process adds to it.
    """
    target = TrackFolder(run_folder).read_target()
    if target is None:
        return None
    settings = TrackSettings(target.experiment, target.run_name, target.uri, system_metrics_s=0.0)
    tracker = OutboxTracker.start(run_folder, settings)
    tracker.metrics(values, step)
    tracker.artifacts(artifacts)
    return tracker.finish(status)


def _settle_target(folder: TrackFolder, settings: TrackSettings) -> None:
    """Decide where the run goes: where it went before, once MLflow has it, or else where the settings say."""
    known = folder.read_target()
    uri = settings.resolved_uri()
    if known is not None and SenderState.read(folder.state).run_id is not None:
        if known.uri != uri:
            logger.warning("this run is in MLflow at %s and goes on there, not at %s", known.uri, uri)
        return
    key, started_ms = (known.key, known.started_ms) if known else (settings.key or uuid.uuid4().hex, _now_ms())
    experiment, name, pause_s = settings.experiment, settings.run_name, settings.system_metrics_s
    folder.write_target(Target(key, started_ms, uri, experiment, name, pause_s, settings.parent))


def _now_ms() -> int:
    return int(time.time() * 1000)
