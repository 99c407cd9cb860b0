"""How a sweep stands: a table that lives on a terminal, and a line for each event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from compose_vlp.sweep.running import Job, progress, scores_so_far

REFRESH_S = 0.5
QUIET_S = 60.0
"""Where no terminal is, runs that go on are told of this often."""
ROWS = 30
"""Rows of a table; of more runs those that go on or failed come first."""
_STYLES = {
    "done": "green",
    "known": "dim",
    "failed": "bold red",
    "running": "bold",
    "pruned": "dim",
    "stopped": "yellow",
}
_URGENT = ("running", "failed", "stopped", "done", "pruned", "known", "waiting")


class SweepTable:
    """Shows a sweep's runs (`compose_vlp.sweep.running.Watching`); use it as a context."""

    def __init__(self, console: Console, jobs: Sequence[Job], score: str | None) -> None:
        self.console, self.jobs, self.score = console, jobs, score
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self.told_at = time.monotonic()

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def changed(self, job: Job) -> None:
        words = f"{job.cell}, seed {job.seed}: {job.state}"
        if job.state == "running" and job.attempts > 1:
            words += f", attempt {job.attempts}"
        if job.state == "done":
            words += f"  {self._measured(job)}"
        self.console.print(Text(words, style=_STYLES.get(job.state, "")), soft_wrap=True)
        if job.state == "failed":
            for line in (job.reason, *job.trial.tail().splitlines(), f"all of it: {job.trial.output}"):
                self.console.print(Text(f"    {line}"), soft_wrap=True)

    def tick(self, running: list[Job]) -> None:
        now = time.monotonic()
        if now - self.told_at < (QUIET_S if self.live is None else REFRESH_S):
            return
        self.told_at = now
        if self.live is not None:
            self.live.update(self.table(), refresh=True)
            return
        for job in running:
            self.console.print(f"{job.cell}, seed {job.seed}: {self._step(job)}", soft_wrap=True)

    def table(self) -> Group:
        """Tabulate the runs, those first that somebody would look for."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name in ("cell", "seed", "", "step", "left", self.score or "score"):
            table.add_column(name, overflow="fold")
        ordered = sorted(self.jobs, key=lambda job: _URGENT.index(job.state))
        for job in ordered[:ROWS]:
            known = progress(job.trial) if job.state == "running" else None
            step, left = (f"{known.done}/{known.steps}", known.left) if known else ("", "")
            cells = (job.cell, str(job.seed), job.state, step, left, self._measured(job))
            table.add_row(*cells, style=_STYLES.get(job.state, ""))
        counts = {state: sum(job.state == state for job in self.jobs) for state in _URGENT}
        summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return Group(table, Text(summary, style="dim"))

    def _step(self, job: Job) -> str:
        known = progress(job.trial)
        if known is None:
            return "is being made ready"
        left = f", {known.left} left" if known.left else ""
        return f"{known.stage} {known.done}/{known.steps}{left}"

    def _measured(self, job: Job) -> str:
        scores = scores_so_far(job.trial)
        name = self.score if self.score in scores else next(iter(scores), None)
        if name is None:
            return ""
        return f"{scores[name]:.4f}" if name == self.score else f"{name} {scores[name]:.4f}"
