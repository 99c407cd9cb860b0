"""The log of a run: `logs/train.log` has what a screen had, whether somebody looked or not."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from compose_vlp.readable import duration, several, visible
from compose_vlp.runtime.training.listener import Listener
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.summary import Summary

LOG = "train.log"
QUIET_S = 10.0
"""A line on steps is written this often."""


@dataclass
class Recent:
    """The steps since they were last told; `text` tells them, and begins anew."""

    steps: list[StepReport] = field(default_factory=list)

    def text(self, left: int | None) -> str:
        """Losses as means, seconds a step, and how long `left` more steps take."""
        count = len(self.steps)
        means = {name: sum(step.losses[name] for step in self.steps) / count for name in self.steps[-1].losses}
        each = sum(step.seconds for step in self.steps) / count
        self.steps.clear()
        rest = [f"{duration(each * left)} left"] if left else []
        return "  ".join([*(f"{name} {value:.3f}" for name, value in means.items()), f"{each:.2f} s/step", *rest])


def scores_text(data: str, step: int, scores: Mapping[str, float]) -> str:
    """Say in one line what was measured."""
    return f"{data} after {several(step, 'step')}  " + "  ".join(
        f"{name} {value:.3f}" for name, value in scores.items()
    )


class Log:
    """Listens to training for the log, and hands everything on to another listener."""

    def __init__(self, listener: Listener, file: Path) -> None:
        self.listener, self.file = listener, file
        self.recent = Recent()
        self.name, self.steps = "", 0
        self.written_at = time.monotonic()

    def stage(self, name: str, first: int, steps: int) -> None:
        self.name, self.steps = name, steps
        self.recent, self.written_at = Recent(), time.monotonic()
        self.listener.stage(name, first, steps)

    def step(self, report: StepReport) -> None:
        self.recent.steps.append(report)
        done, now = report.step + 1, time.monotonic()
        if now - self.written_at >= QUIET_S or done == self.steps:
            self.write(f"{self.name} {done}/{self.steps}  {self.recent.text(self.steps - done)}")
            self.written_at = now
        self.listener.step(report)

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
        self.write(scores_text(data, step, scores))
        self.listener.evaluated(data, step, scores)

    def note(self, text: str) -> None:
        self.write(text)
        self.listener.note(text)

    def end(self, summary: Summary) -> None:
        self.write(summary.text())
        self.listener.end(summary)

    def write(self, text: str) -> None:
        """Add a line, with its time."""
        self.write_all([text])

    def write_all(self, texts: Iterable[str]) -> None:
        """Add lines; a disk that is full must not end a run for the log's sake."""
        with suppress(OSError), self.file.open("a", encoding="utf-8") as file:
            file.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {visible(text)}\n" for text in texts)


class _Warnings(logging.Handler):
    """Writes warnings of the package into a log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.write(record.getMessage())


@contextmanager
def logged(log: Log) -> Iterator[None]:
    """Within it, warnings of the package stand in the log, and what ends the run."""
    package = logging.getLogger("compose_vlp")
    handlers: list[logging.Handler] = [_Warnings(log)]
    if not package.hasHandlers() and logging.lastResort is not None:
        handlers.append(logging.lastResort)  # which speaks only where nobody else listens
    for handler in handlers:
        package.addHandler(handler)
    try:
        yield
    except BaseException as error:
        log.write(f"{type(error).__name__}: {error}")
        raise
    finally:
        for handler in handlers:
            package.removeHandler(handler)
