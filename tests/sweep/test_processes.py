"""Runs in processes of their own: killed with their sweep or alone, they go on from their checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sweep.conftest import BASE

PATIENCE_S = 200.0
QUESTION = f"""
sweep: question
base: [{", ".join(repr(word) for word in BASE)}]
vary: {{losses.contrastive.weight: [1, 0.5]}}
measure: {{count: 12, tasks: [retrieval]}}
budget: {{steps: 3000}}
leave_out: [{{losses.contrastive.weight: 0.5}}]
"""
"""One cell, whose training is long enough to be killed in it; how long it is, is changed afterwards."""


def command(*options: str) -> list[str]:
    words = ["sweep", "question.yaml", "--no-track", "--device", "cpu", "--checkpoint-every", "5", *options]
    return [sys.executable, "-m", "compose_vlp", *words]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "question.yaml").write_text(QUESTION)
    yield tmp_path
    for process in of_folder(tmp_path):
        process.kill()


def of_folder(folder: Path, word: str = "") -> list[psutil.Process]:
    """Processes whose command line names something in a folder, and a word."""
    actual = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in part for part in line) and (not word or word in line):
            actual.append(process)
    return actual


def wait(for_what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if value := for_what():
            return value
        time.sleep(0.1)
    raise AssertionError("waited for too long")


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/*/trials/*/run/checkpoints/step-*/manifest.json"))


@pytest.mark.slow
def test_a_sweep_that_is_killed_leaves_no_process_and_goes_on(folder: Path) -> None:
    with Path("first.log").open("w") as log:
        sweep = subprocess.Popen(command(), stdout=log, stderr=log)
    wait(lambda: checkpoints(folder))
    sweep.kill()
    sweep.wait()
    wait(lambda: not of_folder(folder, "train"))
    (run,) = folder.glob("runs/*/trials/*/run/run.json")
    assert json.loads(run.read_text())["status"] == "KILLED", "its run was told, saved and ended"
    assert not list(folder.glob("runs/*/trials/*/failed.json"))

    with Path("second.log").open("w") as log:
        sweep = subprocess.Popen(command("--retries", "1"), stdout=log, stderr=log)
    training = wait(lambda: of_folder(folder, "--resume"))[0]
    (output,) = folder.glob("runs/*/trials/*/output.log")
    wait(lambda: "resuming from step-" in output.read_text())
    training.kill()
    wait(lambda: output.read_text().count("resuming from step-") == 2)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(PATIENCE_S) == 130
    second_log = Path("second.log").read_text()
    assert "baseline, seed 0: failed" in second_log
    assert "training was killed by SIGKILL" in second_log
    assert "baseline, seed 0: running, attempt 2" in second_log
    assert "the same command goes on" in second_log
    assert json.loads(run.read_text())["status"] == "KILLED"
    assert not of_folder(folder)
