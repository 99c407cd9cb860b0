"""A run tracked for real: a training process, its sender, and an SQLite store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.errors import UserError
from compose_vlp.tracking import NullTracker, OutboxTracker, TrackSettings, ending_of, how_to_look, mlflow_run_id, sync
from compose_vlp.tracking.layout import TrackFolder, default_uri
from compose_vlp.tracking.outbox import count_lines
from compose_vlp.tracking.state import SenderState

PATIENCE_S = 200.0

TRAIN = """
import sys, time
from pathlib import Path
from compose_vlp.tracking import OutboxTracker, TrackSettings

settings = TrackSettings("coca", "run", working_directory=Path.cwd(), system_metrics_s=0)
tracker = OutboxTracker.start(Path(sys.argv[1]), settings)
for step in range(int(sys.argv[2])):
    tracker.metrics({"loss": 1.0}, step)
print("ready", flush=True)
time.sleep(600)
"""


def train(run_folder: Path, steps: int = 5) -> subprocess.Popen[str]:
    """A training process that logs some steps and then goes on for ever."""
    command = [sys.executable, "-c", TRAIN, str(run_folder), str(steps)]
    process = subprocess.Popen(command, cwd=run_folder.parent.parent, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_run_arrives_in_the_store_of_the_working_directory(
    track: Callable[..., OutboxTracker], look: Callable[[str], Any], until: Callable[..., None], tmp_path: Path
) -> None:
    tracker = track(system_metrics_s=0.5)
    sender = tracker._sender
    assert sender is not None
    tracker.params({"seed": 7, "rate": 0.1, "name": None, "flag": True})
    times = []
    for step in range(200):
        started = time.perf_counter()
        tracker.metrics({"train/loss": step / 2} | {f"train/metric {n}": n / 3 for n in range(20)}, step)
        times.append(time.perf_counter() - started)
        time.sleep(0.005)
    assert sorted(times)[len(times) // 2] < 0.001
    outside = tmp_path / "graph.svg"
    outside.write_text("<svg/>")
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_text("a")
    tracker.artifacts({"graph/picture.svg": outside, "pages": folder})
    outside.write_text("changed since")
    system = TrackFolder(tmp_path / "runs" / "run").system
    until(lambda: count_lines(system, 0))
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    assert tracker.finish("FAILED") is None, "a run ends once"
    assert sender.poll() == 0
    uri = default_uri(tmp_path)
    there = look(uri)
    run = there.run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7", "rate": "0.1", "name": "None", "flag": "True"}
    assert there.steps(tracker.run_id, "train/loss") == list(range(200))
    assert there.steps(tracker.run_id, "system/cpu_utilization_percentage")
    assert there.values(tracker.run_id, "system/process_memory_megabytes")[0] > 10
    assert there.artifacts(tracker.run_id, "pages") == {"pages/a.html"}
    kept = there.client.download_artifacts(tracker.run_id, "graph/picture.svg", str(tmp_path))
    assert Path(kept).read_text() == "<svg/>"
    run_folder = tmp_path / "runs" / "run"
    assert mlflow_run_id(run_folder) == tracker.run_id
    assert uri in how_to_look(run_folder)
    assert f"runs/{tracker.run_id}" in how_to_look(run_folder)


def test_training_imports_neither_mlflow_nor_torch(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from compose_vlp.tracking import OutboxTracker, TrackSettings, environment_tags
tracker = OutboxTracker.start(Path("run"), TrackSettings("coca", "run", "http://127.0.0.1:9", system_metrics_s=0))
tracker.metrics({"loss": 1.0}, 0)
tracker.tags(environment_tags())
tracker.finish("FINISHED", wait_s=0)
print([name for name in ("mlflow", "torch", "requests", "sqlalchemy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")],
)
def test_how_a_run_ended_follows_from_how_it_was_left(error: type[BaseException] | None, status: str) -> None:
    assert ending_of(error) == status


def test_an_exception_leaves_the_run_failed(
    track: Callable[..., OutboxTracker], store: str, look: Callable[[str], Any]
) -> None:
    tracker = track(store)

    def leave() -> None:
        with tracker:
            tracker.metrics({"loss": 1.0}, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert look(store).status(tracker.run_id) == "FAILED"
    assert look(store).steps(tracker.run_id, "loss") == [0]


def test_training_that_is_killed_shows_as_failed_and_goes_on_in_its_run(
    tmp_path: Path, store: str, look: Callable[[str], Any], until: Callable[..., None]
) -> None:
    run_folder = tmp_path / "runs" / "run"
    folder = TrackFolder(run_folder)
    process = train(run_folder, 5)
    until(lambda: SenderState.read(folder.state).status == "RUNNING")
    run_id = mlflow_run_id(run_folder)
    kill(process)
    until(lambda: SenderState.read(folder.state).status == "FAILED")
    there = look(store)
    assert there.status(run_id) == "FAILED"
    assert there.steps(run_id, "loss") == [0, 1, 2, 3, 4]
    process = train(run_folder, 8)
    until(lambda: there.steps(run_id, "loss") == list(range(8)))
    assert there.status(run_id) == "RUNNING"
    kill(process)
    until(lambda: there.status(run_id) == "FAILED")
    assert mlflow_run_id(run_folder) == run_id
    assert len(there.client.search_runs([there.run(run_id).info.experiment_id])) == 1


def test_a_resume_while_the_sender_of_the_killed_run_is_still_busy_is_one_run_too(
    tmp_path: Path, store: str, look: Callable[[str], Any], until: Callable[..., None]
) -> None:
    run_folder = tmp_path / "runs" / "run"
    for steps in (300, 600):
        kill(train(run_folder, steps))
    tracker = OutboxTracker.start(run_folder, TrackSettings("coca", "run", store, system_metrics_s=0))
    tracker.metrics({"loss": 1.0}, 600)
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    there = look(store)
    assert there.steps(tracker.run_id, "loss") == list(range(601))
    assert there.status(tracker.run_id) == "FINISHED"
    assert len(there.client.search_runs([there.run(tracker.run_id).info.experiment_id])) == 1


def test_ctrl_c_at_the_terminal_is_meant_for_training_not_for_its_sender(
    tmp_path: Path, store: str, look: Callable[[str], Any], until: Callable[..., None]
) -> None:
    # Whoever runs the tests in the background of a shell has SIGINT ignored, and children inherit that.
    script = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + TRAIN.replace(
        "time.sleep(600)",
        "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    tracker.metrics({'last': 2.0}, 9)\n"
        f"    print(tracker.finish('KILLED', wait_s={PATIENCE_S}))",
    )
    run_folder = tmp_path / "runs" / "run"
    command = [sys.executable, "-c", script, str(run_folder), "3"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate()[0] == "None\n"
    run_id = mlflow_run_id(run_folder)
    assert look(store).status(run_id) == "KILLED"
    assert look(store).steps(run_id, "last") == [9]


def test_two_processes_cannot_track_one_run(tmp_path: Path, track: Callable[..., OutboxTracker]) -> None:
    process = train(tmp_path / "runs" / "run")
    try:
        with pytest.raises(UserError, match="another process is working on the run"):
            track()
    finally:
        kill(process)


def test_two_first_starts_make_one_store(
    track: Callable[..., OutboxTracker], look: Callable[[str], Any], tmp_path: Path
) -> None:
    trackers = [track(name=f"run {number}") for number in range(2)]
    for tracker in trackers:
        tracker.metrics({"loss": 1.0}, 0)
    for tracker in trackers:
        assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    there = look(default_uri(tmp_path))
    assert len({there.run(tracker.run_id).info.experiment_id for tracker in trackers}) == 1
    assert {there.run(tracker.run_id).info.run_name for tracker in trackers} == {"run 0", "run 1"}


def test_a_second_ctrl_c_ends_the_waiting(
    track: Callable[..., OutboxTracker], dead_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = track(dead_uri)
    sender = tracker._sender
    assert sender is not None
    wait = sender.wait
    interrupts = iter([True])

    def interrupted(timeout: float | None = None) -> int:
        if next(interrupts, False):
            raise KeyboardInterrupt
        return wait(timeout)

    monkeypatch.setattr(sender, "wait", interrupted)
    started = time.monotonic()
    message = tracker.finish("KILLED", wait_s=60)
    assert time.monotonic() - started < 50
    assert message is not None
    assert "compose-vlp track sync" in message
    assert sender.poll() is not None


def test_a_sender_that_dies_is_no_trouble_and_nothing_is_lost(
    track: Callable[..., OutboxTracker], store: str, look: Callable[[str], Any], tmp_path: Path
) -> None:
    tracker = track(store)
    assert tracker._sender is not None
    tracker._sender.kill()
    tracker._sender.wait()
    for step in range(10):
        tracker.metrics({"loss": 1.0}, step)
    message = tracker.finish("FINISHED", wait_s=5)
    assert message is not None
    assert "12 records have not reached MLflow" in message
    assert f"compose-vlp track sync {tmp_path}/runs/run" in message
    assert "everything is in MLflow" in sync(tmp_path / "runs" / "run")
    assert look(store).steps(tracker.run_id, "loss") == list(range(10))
    assert look(store).status(tracker.run_id) == "FINISHED"


def test_why_a_sender_died_is_told(
    track: Callable[..., OutboxTracker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compose_vlp.tracking.outbox_tracker._BOOT", "raise SystemExit('no module named mlflow')")
    message = track().finish("FINISHED", wait_s=PATIENCE_S)
    assert message is not None
    assert "no module named mlflow" in message


def test_a_sender_that_cannot_be_started_is_no_trouble(
    track: Callable[..., OutboxTracker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*args: Any, **named: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    tracker = track()
    tracker.metrics({"loss": 1.0}, 0)
    assert "cannot be started" in caplog.text
    message = tracker.finish("FINISHED")
    assert message is not None
    assert "3 records have not reached" in message


def test_a_full_disk_is_told_at_the_end(
    track: Callable[..., OutboxTracker], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = track(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        tracker.metrics({"loss": 1.0}, 0)
        message = tracker.finish("FINISHED", wait_s=1)
    assert message is not None
    assert "2 records could not be written to disk" in message


def test_an_artifact_that_is_not_there_is_a_mistake_of_the_program(
    track: Callable[..., OutboxTracker], store: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"artifact 'plan': no .*plan\.txt"):
        track(store).artifacts({"plan": tmp_path / "plan.txt"})


def test_an_artifact_that_the_disk_has_no_room_for_is_left_out_aloud(
    track: Callable[..., OutboxTracker],
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "plan.txt").write_text("x")
    tracker = track(store)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copy2", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        tracker.artifacts({"plan": tmp_path / "plan.txt"})
    assert "artifact 'plan' cannot be kept" in caplog.text


def test_a_run_that_is_in_one_store_goes_on_there_whatever_the_environment_says_now(
    track: Callable[..., OutboxTracker],
    store: str,
    dead_uri: str,
    look: Callable[[str], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    track(store).finish("KILLED", wait_s=PATIENCE_S)
    tracker = track(dead_uri)
    tracker.metrics({"loss": 1.0}, 3)
    assert f"goes on there, not at {dead_uri}" in caplog.text
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    assert look(store).steps(tracker.run_id, "loss") == [3]


def test_the_environment_chooses_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrackSettings("coca", "run", working_directory=tmp_path)
    assert settings.resolved_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert settings.resolved_uri() == "http://127.0.0.1:5000"
    assert TrackSettings("coca", "run", "sqlite:////a/b.db").resolved_uri() == "sqlite:////a/b.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert settings.resolved_uri() == f"sqlite:///{tmp_path}/other.db"


def test_untracked_runs_listen_to_nothing(tmp_path: Path) -> None:
    with NullTracker() as tracker:
        tracker.params({"seed": 1})
        tracker.metrics({"loss": 1.0}, 0)
        tracker.tags({"x": "y"})
        tracker.artifacts({"plan": tmp_path / "nowhere"})
        tracker.flush()
    assert tracker.run_id is None
    assert tracker.finish("FINISHED") is None


def test_what_was_said_is_on_disk_before_a_checkpoint(track: Callable[..., OutboxTracker], store: str) -> None:
    tracker = track(store)
    tracker.metrics({"loss": 1.0}, 0)
    tracker.flush()
    lines = TrackFolder(tracker._folder.run_folder).outbox.read_text().splitlines()
    assert json.loads(lines[-1])["values"] == {"loss": 1.0}
