"""Running a sweep: as many runs at a time as may be, until all are done, or somebody stops it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from compose_vlp.runtime.training.log import LOG
from compose_vlp.sweep.engines import Engine, Handle
from compose_vlp.sweep.folder import TrialFolder, read_json
from compose_vlp.sweep.work import STOPPED

State: TypeAlias = Literal["waiting", "running", "done", "known", "failed", "stopped", "pruned"]
POLL_S = 0.2
_STEPS = re.compile(r"  (\S+) (\d+)/(\d+)  (?:.*  (\S.*) left)?")
_TAIL_BYTES = 4096


@dataclass
class Job:
    """A run of a sweep, and how it stands. `known` was done before this command."""

    cell: str
    seed: int
    trial: TrialFolder
    state: State = "waiting"
    attempts: int = 0
    reason: str = ""
    handle: Handle | None = field(default=None, repr=False)

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "running")


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps of its stage, and the time that is left as its log has it."""

    stage: str
    done: int
    steps: int
    left: str


class Feed(Protocol):
    """Where runs come from: a list, or a search that thinks of them."""

    def take(self) -> Job | None:
        """The next run; None where there is none now."""

    def finished(self, job: Job) -> None:
        """A run has ended, however."""

    def unwanted(self, job: Job) -> bool:
        """Is a run that goes on not worth its end?"""

    @property
    def exhausted(self) -> bool:
        """Will no further run come?"""


class Listed:
    """The runs of a design that is known beforehand."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.waiting = [job for job in jobs if job.is_open]

    def take(self) -> Job | None:
        return self.waiting.pop(0) if self.waiting else None

    def finished(self, job: Job) -> None: ...

    def unwanted(self, job: Job) -> bool:  # noqa: ARG002 - as `Feed` has it
        return False

    @property
    def exhausted(self) -> bool:
        return not self.waiting


class Watching(Protocol):
    """Who shows how a sweep goes."""

    def changed(self, job: Job) -> None:
        """A run began or ended."""

    def tick(self, running: list[Job]) -> None:
        """Some time went by."""


def run_all(feed: Feed, engine: Engine, retries: int, watching: Watching, asked: Callable[[], int]) -> None:
    """Run what the feed gives, each again after a failure as often as `retries` says.

    Where `asked` gives a signal, runs are asked to save and end, and it returns when they have.
    """
    running: list[Job] = []
    stopping = False
    while True:
        if asked() and not stopping:
            stopping = True
            for job in running:
                _stop(job)
        while not stopping and (engine.at_once is None or len(running) < engine.at_once):
            following = feed.take()
            if following is None:
                break
            _start(following, engine, watching)
            running.append(following)
        if not running and (stopping or feed.exhausted):
            return
        time.sleep(POLL_S)
        running = [job for job in running if not _ended(job, engine, retries, feed, watching, stopping=stopping)]
        for job in running:
            if job.state == "running" and feed.unwanted(job):
                job.state = "pruned"
                _stop(job)
        watching.tick(running)


def _start(job: Job, engine: Engine, watching: Watching) -> None:
    job.attempts += 1
    job.state = "running"
    job.handle = engine.start(job.trial.path)
    watching.changed(job)


def _stop(job: Job) -> None:
    if job.handle is not None:
        job.handle.stop()


def _ended(job: Job, engine: Engine, retries: int, feed: Feed, watching: Watching, *, stopping: bool) -> bool:
    """Look after a run that goes on; true where it has ended."""
    assert job.handle is not None
    reason = job.handle.poll()
    if reason is None:
        return False
    if job.state != "pruned":
        if not reason:
            job.state = "done"
        elif reason == STOPPED or stopping:
            job.state = "stopped"
        else:
            job.state, job.reason = "failed", reason
    if job.state == "failed" and job.attempts <= retries:
        watching.changed(job)
        _start(job, engine, watching)
        return False
    feed.finished(job)
    watching.changed(job)
    return True


def progress(trial: TrialFolder) -> Progress | None:
    """Read from its log how far a run is; None where nothing is written yet."""
    file = trial.run / "logs" / LOG
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return None
    matches = [_STEPS.search(line) for line in text.splitlines()]
    last = next((match for match in reversed(matches) if match is not None), None)
    return None if last is None else Progress(last[1], int(last[2]), int(last[3]), last[4] or "")


def scores_so_far(trial: TrialFolder) -> dict[str, float]:
    """Return what was measured: at the end, or else while it trains, by the stage's `evaluate`."""
    final = trial.scores()
    if final is not None:
        return final
    extra = (read_json(trial.run / "run.json") or {}).get("extra", {})
    return {
        name: float(value)
        for scores in extra.get("scores", {}).values()
        for name, value in scores.items()
        if name != "step"
    }
