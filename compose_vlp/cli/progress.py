"""What a person sees while something long goes on: a bar, the losses, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from compose_vlp.cli.console import err
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.summary import Summary

REFRESH_S = 0.2
"""Losses are averaged and shown this often; every step would cost more than small models' steps."""
QUIET_S = 10.0
"""Where the output is no terminal, a line is printed this often."""


class TrainProgress:
    """Listens to training (`compose_vlp.runtime.training.listener.Listener`); use it as a context."""

    def __init__(self) -> None:
        self.console = err()
        self.live = self.console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.live,
        )
        self.task = TaskID(0)
        self.shown_at = time.monotonic()
        self.since: list[StepReport] = []

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
        self.since.append(report)
        now = time.monotonic()
        last = report.step + 1 == self.steps
        if now - self.shown_at >= (REFRESH_S if self.live else QUIET_S) or last:
            self._show(report.step + 1)
            self.shown_at = now

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self.console.print(f"{data} after {step} steps  {numbers}", soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", soft_wrap=True)

    def end(self, summary: Summary) -> None:
        self.console.print(summary.text(), style="dim", soft_wrap=True)

    def _show(self, done: int) -> None:
        """Losses as means over the steps since they were last shown."""
        count = len(self.since)
        names = self.since[-1].losses
        means = {name: sum(one.losses[name] for one in self.since) / count for name in names}
        each = sum(one.seconds for one in self.since) / count
        numbers = "  ".join([*(f"{name} {value:.3f}" for name, value in means.items()), f"{each:.2f} s/step"])
        self.since.clear()
        if self.live:
            self.bar.update(self.task, completed=done, numbers=numbers)
        else:
            self.console.print(f"{self.name} {done}/{self.steps}  {numbers}", soft_wrap=True)
