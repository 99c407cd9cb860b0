"""Whole runs of `compose-vlp train` as MLflow sees them: killed, stopped, resumed, without a server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.tracking import mlflow_run_id, sync
from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.state import SenderState
from tests.conftest import SMALL
from tests.support import paced_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 40
DATA = ("data.pairs.size=16", "data.pairs.count=64", "stages.pretrain.batch=4")
PACE = paced_training(0.05)


def train(folder: Path, *words: str, uri: str | None = None) -> subprocess.Popen[str]:
    """A training process that says each step, and takes 50 ms more for it."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"MLFLOW_TRACKING_URI": uri} if uri else {}
    command = [sys.executable, "-c", PACE, "train", "--log-every", "1", "--checkpoint-every", "5", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def fresh(folder: Path, **named: Any) -> subprocess.Popen[str]:
    length = f"stages.pretrain.length={STEPS} steps"
    return train(folder, "tiny/coca", *SMALL, *DATA, length, "tracking.model=false", "--out", "run", **named)


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == f"step {step}":
            return
    raise AssertionError("training ended early")


def test_a_run_that_is_killed_has_failed_and_goes_on_in_its_run(
    tmp_path: Path, store: str, look: Callable[[str], Any], until: Callable[..., None]
) -> None:
    process = fresh(tmp_path)
    wait_for_step(process, 12)
    process.kill()
    process.communicate()
    state = TrackFolder(tmp_path / "run").state
    until(lambda: SenderState.read(state).status == "FAILED")
    run_id, there = mlflow_run_id(tmp_path / "run"), look(store)
    assert there.status(run_id) == "FAILED"
    assert there.steps(run_id, "pretrain/loss")[:12] == list(range(12))
    process = train(tmp_path, "--resume", "run")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    sync(tmp_path / "run")
    assert mlflow_run_id(tmp_path / "run") == run_id
    assert there.status(run_id) == "FINISHED"
    history = there.client.get_metric_history(run_id, "pretrain/loss")
    assert [metric.step for metric in history] == list(range(STEPS)), "each step once"
    assert len(there.client.search_runs([there.run(run_id).info.experiment_id])) == 1


def test_a_run_that_is_stopped_shows_as_killed(tmp_path: Path, store: str, look: Callable[[str], Any]) -> None:
    process = fresh(tmp_path)
    wait_for_step(process, 7)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode != 0
    sync(tmp_path / "run")
    assert look(store).status(mlflow_run_id(tmp_path / "run")) == "KILLED"


def test_a_server_that_is_not_there_slows_no_step_and_gets_everything_later(
    tmp_path: Path, store: str, dead_uri: str, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = fresh(tmp_path, uri=dead_uri)
    wait_for_step(process, 0)
    began = time.monotonic()
    wait_for_step(process, STEPS - 1)
    steps_took = time.monotonic() - began
    assert steps_took < 60, "one request to a server that is gone takes minutes"
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert time.monotonic() - began - steps_took < 60
    assert re.search(r"records have not reached MLflow at", output)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    sync(tmp_path / "run")
    there = look(store)
    run_id = mlflow_run_id(tmp_path / "run")
    assert there.steps(run_id, "pretrain/loss") == list(range(STEPS))
    assert there.status(run_id) == "FINISHED"
