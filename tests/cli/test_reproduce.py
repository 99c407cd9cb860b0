"""`reproduce`: a run trained again comes out the same, and what is not the same is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compose_vlp.cli.run import run as run_command
from compose_vlp.report.reproduce import compare
from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.records import Metrics, encode
from tests.cli.support import SHORT, Cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step, with a seed of its own and without a pass."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = [
        "train",
        "tiny/coca",
        *SHORT,
        "components.vision.depth=1",
        "--no-track",
        "--seed",
        "3",
        "--without",
        "rows",
    ]
    assert run_command([*words, "--out", str(folder)]) == 0
    return folder


def test_a_run_comes_out_the_same(cli: Cli, trained: Path):
    result = cli("reproduce --no-track --out again", str(trained))
    assert result.code == 0, result.err
    assert "Weights identical, bit for bit; 2 of 2 metrics identical" in result.out and "was" not in result.err
    info = json.loads(Path("again/run.json").read_text(encoding="utf-8"))
    assert info["seed"] == 3 and info["extra"]["options"]["without"] == ["rows"]


def test_what_is_not_as_it_was_is_said(cli: Cli, trained: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "other")
    file = tmp_path / "other" / "run.json"
    info = json.loads(file.read_text(encoding="utf-8"))
    info["versions"]["torch"] = "1.0"
    info["extra"]["machine"]["threads"] = 999
    info["extra"]["data"]["pairs"]["contents"] = "f" * 16
    info["seed"] = 4
    file.write_text(json.dumps(info), encoding="utf-8")
    result = cli("reproduce --no-track --out again --json other")
    notes = json.loads(result.out)
    assert result.code == 1 and not notes["identical"] and not notes["same_weights"]
    assert notes["circumstances"][0].startswith("torch is ")
    assert any(line.endswith("was 999") for line in notes["circumstances"])
    assert "`pairs` holds something else than then" in notes["circumstances"]


def test_a_run_without_an_end_cannot_be_compared(cli: Cli, trained: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "stopped")
    file = tmp_path / "stopped" / "run.json"
    file.write_text(file.read_text(encoding="utf-8").replace("FINISHED", "KILLED"), encoding="utf-8")
    result = cli("reproduce stopped")
    assert result.code == 2 and "did not finish" in result.err and "train --resume stopped" in result.err


def test_metrics_are_compared_where_both_runs_have_them(tmp_path: Path):
    for name, losses in (("a", [3.0, 2.0, 1.0, float("nan")]), ("b", [3.0, 2.0, 1.5, float("nan")])):
        TrackFolder(tmp_path / name).path.mkdir(parents=True)
        points = [{"s/loss": loss, "s/lr": 0.1, "s/step_seconds": loss} for loss in losses]
        lines = [encode(Metrics(step, 0, point)) for step, point in enumerate(points)]
        TrackFolder(tmp_path / name).outbox.write_bytes(b"".join(lines))
    loss, rate = compare(tmp_path / "a", tmp_path / "b")
    assert (loss.name, loss.steps, loss.first) == ("s/loss", 4, 2)
    assert loss.largest == pytest.approx(1 / 3)
    assert (rate.name, rate.first, rate.largest) == ("s/lr", None, 0.0)
