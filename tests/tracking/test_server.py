"""Against a real `mlflow server` on loopback, well and unwell: each metric arrives once, and training never waits."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.errors import UserError
from compose_vlp.tracking import OutboxTracker, how_to_look, sync
from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.state import SenderState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_S = 200.0


def problem(tracker: OutboxTracker) -> str | None:
    return SenderState.read(TrackFolder(tracker._folder.run_folder).state).problem


def log(tracker: OutboxTracker, steps: range) -> None:
    for step in steps:
        tracker.metrics({"loss": step / 2, "accuracy": 1.0}, step)


def log_with_times(tracker: OutboxTracker, steps: range) -> float:
    """The median seconds of a call."""
    times = []
    for step in steps:
        started = time.perf_counter()
        tracker.metrics({"loss": step / 2, "accuracy": 1.0}, step)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


@pytest.fixture
def silent_uri() -> Iterator[str]:
    """An address that takes every connection and never answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        try:
            while True:
                taken.append(listening.accept()[0])
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in taken:
        connection.close()


def test_a_run_arrives_with_its_files(
    server: Any, track: Callable[..., OutboxTracker], look: Callable[[str], Any], tmp_path: Path
) -> None:
    tracker = track(server.uri)
    tracker.params({"seed": 1})
    tracker.tags({"x-paper": "CoCa"})
    log(tracker, range(30))
    (tmp_path / "plan.txt").write_text("plan")
    tracker.artifacts({"build/plan.txt": tmp_path / "plan.txt"})
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    there = look(server.uri)
    assert there.status(tracker.run_id) == "FINISHED"
    assert there.steps(tracker.run_id, "loss") == list(range(30))
    assert there.run(tracker.run_id).data.tags["x-paper"] == "CoCa"
    kept = there.client.download_artifacts(tracker.run_id, "build/plan.txt", str(tmp_path / "runs"))
    assert Path(kept).read_text() == "plan"
    assert how_to_look(tmp_path / "runs" / "run").startswith(f"{server.uri}/#/experiments/")


def test_a_dead_server_holds_nothing_up_and_gets_everything_later(
    server: Any,
    dead_uri: str,
    track: Callable[..., OutboxTracker],
    look: Callable[[str], Any],
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run_folder = tmp_path / "runs" / "run"
    started = time.monotonic()
    tracker = track(dead_uri)
    assert time.monotonic() - started < 10
    assert log_with_times(tracker, range(500)) < 0.001
    until(lambda: problem(tracker))
    started = time.monotonic()
    message = tracker.finish("FINISHED")
    assert time.monotonic() - started < 60
    assert message is not None
    assert f"502 records have not reached MLflow at {dead_uri}" in message
    assert "refused" in message
    assert f"compose-vlp track sync {run_folder}" in message
    with pytest.raises(UserError, match="502 records have not reached"):
        sync(run_folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert f"everything is in MLflow: {server.uri}" in sync(run_folder)
    there = look(server.uri)
    assert there.steps(tracker.run_id, "loss") == list(range(500))
    assert there.status(tracker.run_id) == "FINISHED"
    assert "everything is in MLflow" in sync(run_folder)
    assert there.steps(tracker.run_id, "loss") == list(range(500))


def test_a_server_that_starts_late_and_is_stopped_and_killed_gets_everything_once(
    own_server: Any, track: Callable[..., OutboxTracker], look: Callable[[str], Any], until: Callable[..., None]
) -> None:
    tracker = track(own_server.uri)
    log(tracker, range(100))
    until(lambda: problem(tracker))
    own_server.start()
    there = look(own_server.uri)
    until(lambda: tracker.run_id and len(there.steps(tracker.run_id, "loss")) == 100)
    # Stopped, it takes a request that nobody waits for any more, and works it off when it wakes.
    own_server.signal(signal.SIGSTOP)
    log(tracker, range(100, 200))
    until(lambda: "timed out" in (problem(tracker) or ""))
    own_server.signal(signal.SIGCONT)
    until(lambda: len(there.steps(tracker.run_id, "loss")) >= 200)
    log(tracker, range(200, 250))
    own_server.kill()
    log(tracker, range(250, 300))
    until(lambda: problem(tracker))
    own_server.start()
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    for key in ("loss", "accuracy"):
        assert there.steps(tracker.run_id, key) == list(range(300))
    assert there.status(tracker.run_id) == "FINISHED"
    assert len(there.client.search_runs([there.run(tracker.run_id).info.experiment_id])) == 1


def test_a_server_that_never_answers_cannot_hold_up_the_end(
    silent_uri: str, track: Callable[..., OutboxTracker], until: Callable[..., None]
) -> None:
    tracker = track(silent_uri)
    assert log_with_times(tracker, range(200)) < 0.001
    until(lambda: problem(tracker))
    started = time.monotonic()
    message = tracker.finish("FINISHED")
    assert time.monotonic() - started < 60
    assert message is not None
    assert "202 records have not reached MLflow" in message
    assert "timed out" in message


def test_a_hanging_request_is_given_up_when_the_waiting_is_over(
    silent_uri: str, track: Callable[..., OutboxTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    tracker = track(silent_uri)
    log(tracker, range(5))
    started = time.monotonic()
    message = tracker.finish("FINISHED", wait_s=6)
    assert 5 < time.monotonic() - started < 60
    assert message is not None
    assert "7 records have not reached MLflow" in message
    assert tracker._sender is not None
    assert tracker._sender.poll() is not None


def test_a_server_that_answers_500_gets_everything_when_it_is_well(
    server: Any,
    proxy: Callable[..., Any],
    track: Callable[..., OutboxTracker],
    look: Callable[[str], Any],
    until: Callable[..., None],
) -> None:
    between = proxy(server.port, "error")
    tracker = track(between.uri)
    log(tracker, range(20))
    until(lambda: "500" in (problem(tracker) or ""))
    between.manner = "well"
    until(lambda: len(between.taken) == 40)
    between.manner = "error"
    log(tracker, range(20, 40))
    until(lambda: "500" in (problem(tracker) or ""))
    between.manner = "well"
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    assert look(server.uri).steps(tracker.run_id, "loss") == list(range(40))
    assert max(Counter(between.taken).values()) == 1


def test_a_server_whose_answers_get_lost_is_sent_nothing_twice(
    server: Any,
    proxy: Callable[..., Any],
    track: Callable[..., OutboxTracker],
    look: Callable[[str], Any],
    until: Callable[..., None],
) -> None:
    """The run is made, and all metrics are taken, without the sender ever hearing of it."""
    between = proxy(server.port, "lose")
    tracker = track(between.uri, name="lost answers")
    for first in (0, 10, 20):
        log(tracker, range(first, first + 10))
        until(lambda: len(between.taken) >= 2 * first + 20)  # noqa: B023 - called at once
    assert tracker.finish("FINISHED", wait_s=PATIENCE_S) is None
    there = look(server.uri)
    assert there.steps(tracker.run_id, "loss") == list(range(30))
    assert max(Counter(between.taken).values()) == 1
    assert between.lost >= 4
    runs = there.client.search_runs([there.run(tracker.run_id).info.experiment_id])
    assert [run.info.run_name for run in runs].count("lost answers") == 1
