"""What MLflow has of a run beside its curves: settings, data sets, a description, later scores, and its parent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.write import write
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.tracked import command_line, factors_of, marked, open_tracker, own_tags, settings_of
from compose_vlp.tracking import OutboxTracker, TrackSettings, add_to_run, mlflow_run_id, sync

PARENT = "0123456789abcdef"
OVERRIDES = ("tracking.experiment=mine", f"tracking.parent={PARENT}", "stages.pretrain.batch=48")


def test_a_run_can_be_compared_searched_and_understood_in_mlflow(
    tmp_path: Path, store: str, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    (tmp_path / "sweep").mkdir()
    with OutboxTracker.start(tmp_path / "sweep", TrackSettings("mine", "all of them", key=PARENT)) as parent:
        parent.tags({"kind": "sweep"})
    sync(tmp_path / "sweep")
    checked = Blueprint.load("tiny/coca", "hybrids/coca_momentum", overrides=OVERRIDES).check()
    folder = RunFolder.create(checked.name, 3, ["compose-vlp", "train", "tiny/coca"], at=tmp_path / "run")
    tracker = open_tracker(checked, folder, {}, track=True)
    tracker.metrics({"pretrain/loss": 1.0}, 0)
    tracker.finish("FINISHED")
    folder.finish("FINISHED")
    page = tmp_path / "page.html"
    page.write_text("<p>found</p>", encoding="utf-8")
    add_to_run(folder.path, {"retrieval/pairs/mean_recall": 0.5}, 900, {"reports/page.html": page}, "FINISHED")
    sync(folder.path)
    there, run_id = look(store), mlflow_run_id(folder.path)
    run = there.run(run_id)
    assert run.data.params["stages.pretrain.batch"] == "48" and run.data.params["seed"] == "3"
    assert run.data.params["components.vision.width"] == "128" and len(run.data.params) > 60
    assert run.data.metrics == {"pretrain/loss": 1.0, "retrieval/pairs/mean_recall": 0.5}
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == mlflow_run_id(tmp_path / "sweep")
    assert run.data.tags["hybrid"] == "true" and run.data.tags["paper"].startswith("https://")
    assert "CoCa with a momentum teacher" in run.data.tags["mlflow.note.content"]
    assert "```\ncompose-vlp train tiny/coca\n```" in run.data.tags["mlflow.note.content"]
    (data_set,) = run.inputs.dataset_inputs
    assert (data_set.dataset.name, data_set.dataset.source_type) == ("pairs", "scenes")
    assert {tag.key: tag.value for tag in data_set.tags} == {"mlflow.data.context": "training"}
    experiment = [run.info.experiment_id]
    for condition in ("params.`stages.pretrain.batch` = '48'", "tags.hybrid = 'true'", "metrics.`pretrain/loss` < 2"):
        assert [actual.info.run_id for actual in there.client.search_runs(experiment, condition)] == [run_id]


def test_a_run_that_was_never_tracked_stays_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert add_to_run(tmp_path / "run", {"a": 1.0}, 0, {}, "FINISHED") is None
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_sweep_varies_is_a_parameter_too() -> None:
    document = Blueprint.load("tiny/coca", overrides=["x-factor-teacher=on", "x-cell=teacher=on"]).document
    assert factors_of(document) == {"factor.teacher": "on"}


def test_a_resolved_hybrid_is_a_hybrid_still(tmp_path: Path) -> None:
    for names, hybrid in ((["tiny/coca", "hybrids/coca_momentum"], "true"), (["tiny/coca"], "false")):
        (tmp_path / "resolved.yaml").write_text(write(marked(Blueprint.load(*names).document)))
        again = Blueprint.load(tmp_path / "resolved.yaml").document
        assert own_tags(again)["hybrid"] == hybrid and ("x-hybrid" in again.root) == (hybrid == "true")
        assert marked(again) is again


@pytest.mark.parametrize("program", ["/usr/lib/compose_vlp/__main__.py", "compose-vlp", "/opt/bin/compose-vlp"])
def test_a_command_is_shown_as_it_can_be_typed(program: str) -> None:
    assert command_line([program, "train", "tiny/coca", "a=[1, 2]"]) == "compose-vlp train tiny/coca 'a=[1, 2]'"


def test_settings_are_those_that_decide_numbers() -> None:
    document = Blueprint.load("tiny/coca", overrides=["tracking.experiment=mine"]).document
    settings = settings_of(document)
    assert not {name.partition(".")[0] for name in settings} & {"name", "title", "paper", "tracking"}
    assert settings["stages.pretrain.losses.0"] == "captioning" or "captioning" in settings.values()
    assert own_tags(document)["hybrid"] == "false"
    assert all(isinstance(value, str | int | float) for value in settings.values())
