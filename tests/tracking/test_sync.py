from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.errors import UserError
from compose_vlp.tracking import how_to_look, mlflow_run_id, sync, tracked_folder
from compose_vlp.tracking.layout import Target, TrackFolder
from compose_vlp.tracking.outbox import Outbox
from compose_vlp.tracking.records import Metrics, StatusChange
from compose_vlp.tracking.remains import remains


@pytest.fixture
def run_folder(tmp_path: Path, store: str) -> Path:
    """A run that was killed before anything was sent."""
    folder = TrackFolder(tmp_path / "run")
    folder.path.mkdir(parents=True)
    folder.write_target(Target("key", 1_000, store, "coca", "run", 0))
    outbox = Outbox(folder.outbox)
    outbox.add(StatusChange("RUNNING", 1_000))
    for step in range(3):
        outbox.add(Metrics(step, 1_000 + step, {"loss": 1.0}))
    outbox.close()
    return folder.run_folder


def test_a_run_that_ended_without_a_word_arrives_as_failed(
    run_folder: Path, store: str, look: Callable[[str], Any]
) -> None:
    assert sync(run_folder) == f"everything is in MLflow: {how_to_look(run_folder)}"
    run_id = mlflow_run_id(run_folder)
    assert look(store).status(run_id) == "FAILED"
    assert look(store).steps(run_id, "loss") == [0, 1, 2]


def test_a_run_that_is_still_training_is_not_called_failed(
    run_folder: Path, store: str, look: Callable[[str], Any]
) -> None:
    with TrackFolder(run_folder).writer_lock:
        sync(run_folder)
    assert look(store).status(mlflow_run_id(run_folder)) == "RUNNING"


def test_two_do_not_send_at_once(run_folder: Path) -> None:
    with TrackFolder(run_folder).sender_lock:
        assert "just now" in sync(run_folder)
    assert mlflow_run_id(run_folder) is None


def test_a_run_that_was_not_tracked_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was not tracked"):
        sync(tmp_path)
    with pytest.raises(UserError, match="was not tracked"):
        how_to_look(tmp_path)


def test_what_mlflow_refused_is_told(run_folder: Path) -> None:
    folder = TrackFolder(run_folder)
    sync(run_folder)
    state = folder.state.read_text().replace('"refused": 0', '"refused": 2')
    folder.state.write_text(state)
    message = remains(folder)
    assert message is not None
    assert message.startswith("MLflow refused 2 records")
    assert str(folder.refused) in message


def test_a_remark_of_mlflow_s_is_no_cause(run_folder: Path) -> None:
    folder = TrackFolder(run_folder)
    folder.log.write_text("2026/01/01 INFO mlflow.store.db.utils: Updating database tables\n")
    message = remains(folder)
    assert message is not None and "INFO" not in message and "have not reached MLflow" in message


def test_artifacts_that_do_not_arrive_are_told(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    from compose_vlp.tracking.records import Artifact

    outbox = Outbox(TrackFolder(run_folder).outbox)
    outbox.add(Artifact("a", "tracking/outbox.jsonl"))
    outbox.close()

    def fail(*args: object, **named: object) -> None:
        raise LookupError("no credentials")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", fail)
        with pytest.raises(UserError, match=r"1 record has not reached MLflow .*LookupError: no credentials"):
            sync(run_folder)
    assert "everything is in MLflow" in sync(run_folder)


def test_a_store_that_cannot_be_made_is_told(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    with pytest.raises(UserError, match="cannot write in"):
        sync(run_folder)


def test_mlflow_remembers_the_folder_of_a_run(
    run_folder: Path, tmp_path: Path, dead_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(run_folder)
    run_id = mlflow_run_id(run_folder)
    assert run_id is not None
    assert tracked_folder(run_id, tmp_path) == run_folder
    assert tracked_folder("0" * 32, tmp_path) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_uri)
    with pytest.raises(UserError, match=f"cannot ask MLflow at {dead_uri}"):
        tracked_folder(run_id, tmp_path)


def test_asking_where_no_store_is_makes_none(tmp_path: Path) -> None:
    script = (
        "import sys; from compose_vlp.tracking import tracked_folder as f; print(f('0' * 32), 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "None False\n"
    assert list(tmp_path.iterdir()) == []
