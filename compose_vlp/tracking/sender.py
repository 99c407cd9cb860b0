"""The sender: a process beside training that brings its outbox to MLflow.

A process, not a thread: importing MLflow keeps Python's lock for seconds, and a sender that survives a killed training
can still say that it failed. It learns everything from the outbox; that training is over it sees in the outbox's last
line, or in having lost its parent.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from compose_vlp.tracking.delivery import Delivery
from compose_vlp.tracking.layout import Target, TrackFolder
from compose_vlp.tracking.mlflow_store import FAILURES, RunGoneError, be_brief
from compose_vlp.tracking.outbox import has_ended
from compose_vlp.tracking.reason import reason
from compose_vlp.tracking.records import StatusChange
from compose_vlp.tracking.system import SystemSampler

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_LONGEST_PAUSE_S = 30.0
_ARTIFACT_PAUSE_S = 60.0
_NICENESS = 5


class Sender:
    """Sends until training is over and everything has arrived, or until that is hopeless.

    Args:
        folder: The run's tracking files; the caller holds its `sender_lock`.
        target: Where the run goes.
        is_over: Whether training says or does nothing more.
        between: Called about twice a second while training runs.
    """

    def __init__(
        self,
        folder: TrackFolder,
        target: Target,
        is_over: Callable[[], bool],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._is_over = is_over
        self._between = between
        self._failures = 0
        self._next_artifacts = 0.0
        self.delivery = Delivery(folder, target)

    def run(self, *, is_running: bool) -> bool:
        """Send everything; True when nothing remains. `is_running` says so in MLflow first (a run that goes on)."""
        greeting = StatusChange("RUNNING", int(time.time() * 1000)) if is_running else None
        while True:
            over = self._is_over()
            if not over:
                self._between()
            try:
                if greeting:
                    self.delivery.set_status(greeting)
                    greeting = None
                idle = not self.delivery.send_next()
                if idle and over:
                    return self._end()
                if idle:
                    self._retry_artifacts()
            except FAILURES as error:
                if not self._go_on_after(error, over):
                    return False
                continue
            except RunGoneError as error:
                self.delivery.note_problem(str(error))
                return False
            self._failures = 0
            self.delivery.note_problem(None)
            if idle:
                time.sleep(_POLL_S)

    def _end(self) -> bool:
        """Everything has been sent: say how a run ended that could not say so, and try the last artifacts."""
        self.delivery.retry_artifacts()
        if not has_ended(self._folder.outbox) and not self._folder.writer_lock.is_held():
            self.delivery.set_status(StatusChange("FAILED", int(time.time() * 1000)))
        self.delivery.note_problem(None)
        return not self.delivery.state.deferred

    def _go_on_after(self, error: Exception, over: bool) -> bool:
        """Wait a while, longer each time. False when training is over and this was not the first failure in a row."""
        self._failures += 1
        why = reason(error)
        logger.warning("MLflow: %s", why)
        logger.info("%s: %s", type(error).__name__, error)  # whole, with its page of SQL, for the sender's log alone
        self.delivery.note_problem(why)
        if over and self._failures > 1:
            return False
        until = time.monotonic() + min(_LONGEST_PAUSE_S, 0.5 * 2**self._failures)
        while time.monotonic() < until and (over or not self._is_over()):
            self._between()
            time.sleep(min(_POLL_S, max(0.0, until - time.monotonic())))
        return True

    def _retry_artifacts(self) -> None:
        if self.delivery.state.deferred and time.monotonic() >= self._next_artifacts:
            self.delivery.retry_artifacts()
            self._next_artifacts = time.monotonic() + _ARTIFACT_PAUSE_S


def main(arguments: list[str]) -> int:
    """`sender RUN_FOLDER --parent PID`: exit 0 when everything has arrived, 1 when something remains."""
    parser = argparse.ArgumentParser(prog="compose_vlp.tracking.sender")
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for training, which will say how it ended
        signal.signal(signum, signal.SIG_IGN)
    os.nice(_NICENESS)
    be_brief()
    return 0 if _serve(TrackFolder(given.run_folder), given.parent) else 1


def _serve(folder: TrackFolder, parent: int) -> bool:
    target = folder.read_target()
    if target is None:
        raise FileNotFoundError(f"{folder.path} has no target.json")

    def is_orphan() -> bool:
        return os.getppid() != parent

    with folder.sender_lock:  # the sender of a killed run may still be busy; its successor waits
        sampler = SystemSampler(folder, target.system_metrics_s, parent)
        sender = Sender(folder, target, lambda: has_ended(folder.outbox) or is_orphan(), sampler.sample_when_due)
        # An older sender may have brought everything already, the end included: then there is nothing to correct.
        return sender.run(is_running=not is_orphan() and not has_ended(folder.outbox))
