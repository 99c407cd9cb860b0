"""`runs` and `compare` at the command line."""

import json
from pathlib import Path

import pytest

from compose_vlp.runtime.state.run_folder import RunFolder
from tests.cli.support import Cli
from tests.report.made import make_run


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for seed in (0, 1, 2):
        make_run(tmp_path / f"runs/a{seed}", seed=seed, scores={"mean_recall": 0.50 + seed / 100})
        recall = {"mean_recall": 0.60 + seed / 90}
        make_run(tmp_path / f"runs/b{seed}", "stages.pretrain.batch=32", seed=seed, scores=recall)
    return tmp_path / "runs"


def test_runs_are_listed_and_chosen(cli: Cli, made: Path):
    assert cli("runs").out.count("coca_tiny") == 6
    shown = cli("runs --where 'retrieval.mean_recall>0.55' --show stages.pretrain.batch --count 2")
    assert shown.code == 0 and shown.out.count("runs/b") == 2 and "32" in shown.out
    listed = json.loads(cli("runs runs --where seed=1 --json").out)
    assert {row["run"] for row in listed} == {"runs/a1", "runs/b1"}
    assert listed[0]["scores"].keys() == {"retrieval.mean_recall"}
    assert cli("runs --where seed=9").out == "no runs, of 6, fulfil it\n"


def test_a_table_that_does_not_fit_gives_way_to_lines_with_whole_names(
    cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("runs --where 'seed=1 and stages.pretrain.batch=32'").out.splitlines()
    assert lines[0] == "runs/b1"
    assert lines[1].startswith("  coca_tiny, FINISHED, seed 1, ") and lines[1].endswith(", 7 steps, 1 min 1 s")
    assert lines[2:] == ["  retrieval.mean_recall 0.6111"]
    monkeypatch.setenv("COLUMNS", "160")
    heads = cli("runs --where seed=1").out.splitlines()[0].split()
    assert heads == ["run", "blueprint", "status", "seed", "started", "steps", "time", "retrieval.mean_recall"]


def test_a_run_that_was_not_measured_is_said_to_be_so(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path / "runs/blind")
    assert cli("runs").out.rstrip().endswith("not measured")
    monkeypatch.setenv("COLUMNS", "60")
    assert ", 7 steps, " in cli("runs").out
    RunFolder.open(tmp_path / "runs/blind").update(stages={"pretrain": {"steps": 1, "seconds": 60.0}})
    assert ", 1 step, " in cli("runs").out
    make_run(tmp_path / "runs/seen", scores={"mean_recall": 0.5, "text_to_image_recall_at_1": 0.25})
    for width in ("80", "160"):
        monkeypatch.setenv("COLUMNS", width)
        notes = cli("runs").out
        assert notes.count("not measured") == 1 and "–" not in notes and "0.2500" in notes
    asked = cli("runs --show stages.pretrain.batch --show retrieval.mean_recall --where run=runs/blind").out
    assert "64" in asked and "not measured" in asked


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("runs nowhere", "no folder 'nowhere'"),
        ("runs --where 'sed=1'", "did you mean 'seed'"),
        ("runs --show sed", "did you mean 'seed'"),
        ("compare runs/a0", "one run is nothing to compare"),
        ("compare runs/a0 runs/c0", "runs/a0"),
        ("compare runs/a0 runs/b0 --score recall", "no run was measured by 'recall'"),
    ],
)
def test_mistakes_are_explained(cli: Cli, made: Path, words: str, says: str):
    result = cli(words)
    assert result.code == 2 and says in result.err and result.out == ""


def test_runs_are_compared_by_what_their_blueprints_mean(cli: Cli, made: Path):
    runs = [str(path) for path in sorted(made.iterdir())]
    result = cli("compare --out report", *runs)
    assert result.code == 0
    assert "stages.pretrain.batch=32" in result.out and "higher" in result.out and "+0.1" in result.out
    assert "Report: report/index.html" in result.err
    notes = json.loads(cli("compare --json", *runs).out)
    assert notes["baseline"] == "coca_tiny" and notes["rows"][1]["seeds"] == 3


def test_scores_that_are_not_shown_are_named_in_brief(cli: Cli, tmp_path: Path):
    scores = {f"recall_at_{k}": 0.1 * k for k in range(1, 9)}
    for name, changes in (("a", ()), ("b", ("stages.pretrain.batch=32",))):
        make_run(tmp_path / name, *changes, scores=scores)
    note = cli("compare a b").err
    assert "retrieval.recall_at_5 and 3 more (--verbose names them)" in note and "at_8" not in note
    assert "retrieval.recall_at_8" in cli("compare a b --verbose").err
