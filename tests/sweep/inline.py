"""Runs of a sweep in this process, where torch is imported already: a second each, and all else as it is."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.cli.run import run as run_command
from compose_vlp.sweep import session, work
from compose_vlp.sweep.document import Sweep
from compose_vlp.sweep.folder import TrialFolder
from compose_vlp.sweep.running import Job
from compose_vlp.sweep.session import Options, Session


class Inline:
    """An engine that is done with a run when it has started it. `before` is told of each, and may refuse it."""

    at_once: int | None = 1

    def __init__(self, before: Callable[[Path], str]) -> None:
        self.before = before
        self.started: list[Path] = []

    def start(self, folder: Path) -> Any:
        self.started.append(folder)
        reason = self.before(folder) or work.attempt(folder)
        return Ended(reason)

    def close(self) -> None: ...


class Ended:
    def __init__(self, reason: str) -> None:
        self.reason = reason

    def poll(self) -> str | None:
        return self.reason

    def stop(self) -> None: ...


class Quiet:
    """Watches, and keeps what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    def changed(self, job: Job) -> None:
        self.seen.append((job.cell, job.seed, job.state))

    def tick(self, running: list[Job]) -> None: ...


def run_inline(
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: Callable[[Path], str] = lambda _: "",
    asked: Callable[[], int] = lambda: 0,
    **options: Any,
) -> tuple[Session, Inline, list[str]]:
    """Run a sweep to its end; gives the session, the engine and the notes."""
    engine = Inline(before)
    notes: list[str] = []
    monkeypatch.setattr(work, "_run", command_here)
    monkeypatch.setattr(session, "engine", lambda *_: engine)
    monkeypatch.setattr("compose_vlp.sweep.running.POLL_S", 0)
    chosen = Options(device="cpu", track=False, train=("--no-track", "--checkpoint-every", "2"), **options)
    made = Session(sweep, chosen, notes.append)
    made.run(Quiet(), asked)
    return made, engine, notes


def command_here(command: Sequence[str], trial: TrialFolder, _: Any, *, keep: bool = False) -> str:
    """What `work` does with a command, in this process."""
    words = list(command[command.index("compose_vlp") + 1 :])
    printed = io.StringIO()
    with (
        trial.output.open("a") as log,
        contextlib.redirect_stdout(printed if keep else log),
        contextlib.redirect_stderr(log),
    ):
        code = run_command(words)
    if code:
        raise work.Failed(f"{words[0]} ended with exit code {code}")
    return printed.getvalue()
