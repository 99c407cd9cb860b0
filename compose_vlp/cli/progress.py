"""What a person sees while something long goes on: a bar, the losses, how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from compose_vlp.cli.console import SafeConsole, is_quiet
from compose_vlp.runtime.training.log import QUIET_S, Recent, scores_text
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.summary import Summary

REFRESH_S = 0.2
"""Losses are averaged and shown this often; every step would cost more than small models' steps."""


class Screen:
    """A stream for people: when its terminal or pipe is closed, what is written is lost, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class TrainProgress:
    """Listens to training (`compose_vlp.runtime.training.listener.Listener`); use it as a context."""

    def __init__(self) -> None:
        self.console = SafeConsole(
            file=cast(TextIO, Screen(sys.stderr)), highlight=False, markup=False, quiet=is_quiet()
        )
        self.live = self.console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.live or is_quiet(),
        )
        self.task = TaskID(0)
        self.shown_at = time.monotonic()
        self.recent = Recent()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def stage(self, name: str, first: int, steps: int) -> None:
        self.name, self.steps = name, steps
        self.shown_at = time.monotonic()
        self.task = self.bar.add_task(name, total=steps, completed=first, numbers="")

    def step(self, report: StepReport) -> None:
        self.recent.steps.append(report)
        now = time.monotonic()
        last = report.step + 1 == self.steps
        if now - self.shown_at >= (REFRESH_S if self.live else QUIET_S) or last:
            self._show(report.step + 1)
            self.shown_at = now

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
        self.console.print(scores_text(data, step, scores), soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", soft_wrap=True)

    def end(self, summary: Summary) -> None:
        self.console.print(summary.text(), style="dim", soft_wrap=True)

    def _show(self, done: int) -> None:
        """Losses as means over the steps since they were last shown; on a terminal the bar says how long it takes."""
        if self.live:
            self.bar.update(self.task, completed=done, numbers=self.recent.text(None))
        else:
            numbers = self.recent.text(self.steps - done)
            self.console.print(f"{self.name} {done}/{self.steps}  {numbers}", soft_wrap=True)
