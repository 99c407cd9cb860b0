"""What `train` says, on a screen, in a pipe and in the run's log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from compose_vlp.cli.progress import Screen, TrainProgress
from compose_vlp.runtime.training.log import Recent
from compose_vlp.runtime.training.loop import StepReport
from tests.cli.support import SHORT, Cli
from tests.conftest import SMALL


def test_a_run_says_what_it_does_and_what_came_of_it_and_its_log_has_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    evaluated = "stages.pretrain.evaluate={every: 1 steps, count: 4}"
    result = cli("train tiny/coca --no-track --device cpu --out run", *SMALL, *SHORT, evaluated)
    assert result.code == 0, result.err
    log = (tmp_path / "run" / "logs" / "train.log").read_text()
    for phrase in (
        "run folder: run",
        "stage pretrain on cpu in fp32: ",
        "parameters trained; 12 records of pairs; 1 step of 4; no processes reading ahead",
        "pairs after 1 step ",
        "recall@1 of a blind guess: 0.250",
        " is written for ",
    ):
        assert phrase in result.err and phrase in log, phrase
    assert "recall@1 of a blind guess" in result.out and "\nMeasure it: compose-vlp evaluate run\n" in result.out


def test_a_pipe_is_told_how_long_it_takes() -> None:
    recent = Recent([StepReport(step, {"a": float(step)}, 1.0, 0.1, None, 2.0, 0.0) for step in range(2)])
    assert recent.text(30) == "a 0.500  2.00 s/step  1 min 0 s left"
    assert not recent.steps


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stderr", Gone())
    with TrainProgress() as progress:
        assert isinstance(progress.console.file, Screen)
        progress.note("nobody reads this")
