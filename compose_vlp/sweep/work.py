"""One run of a sweep, from its beginning or from where it stopped: `compose-vlp train`, then `compose-vlp evaluate`.

`python -m compose_vlp.sweep.work FOLDER` does it in a process of its own, and so do the workers of clusters. What the
two commands print goes to the run's log. It may be killed at any time, and started again: what is done is not repeated.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

from compose_vlp.files import ProcessLock, write_atomic
from compose_vlp.sweep.folder import TrialFolder, TrialSettings, read_json

PROBE_STEPS: Final = 20
"""Steps by which the time of one is measured, where a budget is in minutes."""
_DEATH_SIGNAL: Final = 1  # Linux's PR_SET_PDEATHSIG
_POLL_S: Final = 0.2
_CAUSE: Final = 300
"""Letters of what a command said was wrong."""


class Failed(Exception):
    """A command that ended otherwise than well; the message says how."""


class Asked(Exception):
    """This process was asked to stop, and its command has: the run can go on from what is saved."""


def work(path: Path) -> None:
    """Train and measure what stands in a trial's folder.

    Raises:
        Failed: one of the commands failed.
        Asked: a signal stopped it.
    """
    trial = TrialFolder(path)
    with trial.lock:  # another process may be saving what a sweep that was killed had begun
        settings = trial.settings
        _train(trial, settings)
        if trial.measured is None:
            _evaluate(trial, settings)


def trained(trial: TrialFolder) -> bool:
    """Has it come to the end of its training?"""
    return (read_json(trial.run / "run.json") or {}).get("status") == "FINISHED"


def _train(trial: TrialFolder, settings: TrialSettings) -> None:
    if trained(trial):
        return
    run_lock = ProcessLock(trial.run / "run.lock")
    while trial.run.is_dir() and run_lock.is_held():
        time.sleep(_POLL_S)
    device = ["--device", settings.device]
    if (trial.run / "run.json").is_file():
        words = ["train", "--resume", str(trial.run), *device, *settings.train]
    else:
        length = _length(trial, settings)
        seed = ["--seed", str(settings.seed)]
        words = ["train", str(trial.blueprint), *length, "--out", str(trial.run), *seed, *device, *settings.train]
    _run(_program(settings.gpus) + words, trial, settings)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    before = (read_json(trial.path / "memory.json") or {}).get("bytes", 0)
    write_atomic(trial.path / "memory.json", json.dumps({"bytes": max(peak, before)}))


def _length(trial: TrialFolder, settings: TrialSettings) -> list[str]:
    """The change that gives a budget of minutes, by the time of a step in a short training of the same."""
    if settings.minutes is None:
        return []
    kept = trial.path / "steps.json"
    known = read_json(kept)
    if known is None:
        probe = trial.path / "probe"
        first = f"stages.{settings.stage}.length={PROBE_STEPS} steps"
        if (read_json(probe / "run.json") or {}).get("status") != "FINISHED":
            shutil.rmtree(probe, ignore_errors=True)
            words = [
                "train",
                str(trial.blueprint),
                first,
                "--out",
                str(probe),
                "--no-track",
                "--device",
                settings.device,
            ]
            _run(_program(settings.gpus) + words, trial, settings)
        stage = (read_json(probe / "run.json") or {})["extra"]["stages"][settings.stage]
        each = stage["seconds"] / stage["steps"]
        known = {"steps": max(1, int(settings.minutes * 60 / each)), "seconds_per_step": each}
        write_atomic(kept, json.dumps(known))
        shutil.rmtree(probe, ignore_errors=True)
    return [f"stages.{settings.stage}.length={known['steps']} steps"]


def _evaluate(trial: TrialFolder, settings: TrialSettings) -> None:
    words = ["evaluate", str(trial.run), *settings.evaluate, "--device", settings.device, "--json"]
    words += ["--out", str(trial.path / "reports")]
    output = _run(_program(1) + words, trial, settings, keep=True)
    try:
        measured = json.loads(output)
    except ValueError:
        raise Failed("measuring gave no scores") from None
    if not measured.get("scores"):
        raise Failed("measuring gave no scores")
    write_atomic(trial.scores_file(settings.evaluate), json.dumps(measured, indent=1))


def _program(gpus: int) -> list[str]:
    if gpus > 1:
        together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
        return [sys.executable, *together, "-m", "compose_vlp"]
    return [sys.executable, "-m", "compose_vlp"]


def _run(command: Sequence[str], trial: TrialFolder, settings: TrialSettings, *, keep: bool = False) -> str:
    """Run a command to its end, in the run's environment; it is told to stop when this process is, or when it dies.

    Raises:
        Failed: it ended otherwise than with 0.
        Asked: a signal stopped it.
    """
    cause = trial.path / "cause.json"
    cause.unlink(missing_ok=True)
    environment = {**os.environ, **settings.environment, "TORCHELASTIC_ERROR_FILE": str(cause)}
    with trial.output.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if keep else log,
            stderr=log,
            text=True,
            env=environment,
            cwd=settings.directory or None,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock is taken
        )
        with _Forwarding(process) as forwarding:
            output, _ = process.communicate()
    if forwarding.asked:
        raise Asked
    if process.returncode:
        message = (read_json(cause) or {"message": {}})["message"].get("message")
        raise Failed(_ended(command, process.returncode) + (f": {message[:_CAUSE]}" if message else ""))
    return output or ""


def _ended(command: Sequence[str], code: int) -> str:
    what = "measuring" if "evaluate" in command else "training"
    if code < 0:
        try:
            return f"{what} was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"{what} was killed by signal {-code}"
    return f"{what} ended with exit code {code}"


class _Forwarding:
    """Within it, signals that ask this process to end are handed on to another, which ends in good order."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self.process = process
        self.asked = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self.before[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _forward(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


def die_with_parent() -> None:
    """Ask Linux to end this process in good order when its parent is gone, however that went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)


STOPPED: Final = "stopped"
"""What `attempt` gives where it was asked to stop."""


def attempt(path: Path) -> str:
    """Work, and note in the folder what went wrong: the reason, empty where nothing did."""
    try:
        work(path)
    except Failed as failure:
        TrialFolder(path).fail(str(failure))
        return str(failure)
    except Asked:
        return STOPPED
    return ""


if __name__ == "__main__":
    sys.exit({"": 0, STOPPED: 128 + signal.SIGTERM}.get(attempt(Path(sys.argv[1])), 1))
