from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose_vlp.errors import UserError
from compose_vlp.runtime.state import find_run as module
from compose_vlp.runtime.state.find_run import find_run
from compose_vlp.runtime.state.run_folder import RunFolder

RUN_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create("tiny/coca", 0, [], root=tmp_path / "runs")
    (folder.path / "tracking").mkdir()
    (folder.path / "tracking" / "state.json").write_text(json.dumps({"run_id": RUN_ID}))
    folder.finish("FINISHED")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_is_found_by_its_folder_its_file_or_its_mlflow_id(run: RunFolder) -> None:
    assert find_run(run.path).path == run.path
    assert find_run(str(run.path / "run.json")).path == run.path
    assert find_run(RUN_ID).path.resolve() == run.path


def test_an_id_that_no_folder_here_has_is_asked_of_mlflow(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def remembered(run_id: str) -> Path | None:
        asked.append(run_id)
        return run.path if run_id.startswith("a") else None

    monkeypatch.setattr(module, "tracked_folder", remembered)
    assert find_run("a" * 32).path == run.path
    with pytest.raises(UserError, match="no run"):
        find_run("b" * 32)
    assert asked == ["a" * 32, "b" * 32]


def test_a_folder_that_mlflow_remembers_and_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "tracked_folder", lambda run_id: tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"MLflow knows run .*, but its folder .*elsewhere is not here"):
        find_run("a" * 32)


def test_an_unknown_run_is_told_the_nearest(run: RunFolder) -> None:
    for nearly in (run.path.name[:-1], RUN_ID[:-1], f"runs/{run.path.name}x"):
        with pytest.raises(UserError, match="neither a run folder nor an MLflow run id") as caught:
            find_run(nearly)
        assert f"runs/{run.path.name}" in caught.value.problems[0].hints[0]
    with pytest.raises(UserError) as caught:
        find_run("nothing like it")
    assert caught.value.problems[0].hints[0] == f"the latest runs: runs/{run.path.name}"


def test_no_runs_at_all_is_said() -> None:
    with pytest.raises(UserError) as caught:
        find_run("coca")
    assert caught.value.problems[0].hints == ("there are no runs in runs/",)


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="is not a run folder"):
        find_run("data")
