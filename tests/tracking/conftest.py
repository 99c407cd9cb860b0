"""MLflow for tests: an SQLite store made once and copied, a real server, and a proxy before it that misbehaves."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

from compose_vlp.tracking import OutboxTracker, TrackSettings

PATIENCE_S = 200.0


@pytest.fixture(autouse=True)
def _quick_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from compose_vlp.tracking.mlflow_store import open_client

    folder = tmp_path_factory.mktemp("empty-store")
    open_client(f"sqlite:///{folder / 'mlflow.db'}")
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, _empty_store: Path) -> str:
    """The address of a fresh SQLite store, in the test's own folder."""
    shutil.copy(_empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


class Look:
    """What MLflow has of a run, read back through its own client."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)

    def run(self, run_id: str | None) -> Any:
        assert run_id is not None
        return self.client.get_run(run_id)

    def status(self, run_id: str | None) -> str:
        return str(self.run(run_id).info.status)

    def steps(self, run_id: str | None, key: str) -> list[int]:
        assert run_id is not None
        return sorted(metric.step for metric in self.client.get_metric_history(run_id, key))

    def values(self, run_id: str | None, key: str) -> dict[int, float]:
        assert run_id is not None
        return {metric.step: metric.value for metric in self.client.get_metric_history(run_id, key)}

    def artifacts(self, run_id: str | None, folder: str | None = None) -> set[str]:
        assert run_id is not None
        return {item.path for item in self.client.list_artifacts(run_id, folder)}

    def models(self, run_id: str | None) -> list[Any]:
        """Rows of the "Models" tab."""
        condition = f"source_run_id = '{run_id}'"
        return list(self.client.search_logged_models([self.run(run_id).info.experiment_id], condition))

    def model_files(self, run_id: str | None, folder: str | None = None) -> set[str]:
        (model,) = self.models(run_id)
        return {item.path for item in self.client.list_logged_model_artifacts(model.model_id, folder)}


@pytest.fixture
def look() -> Callable[[str], Look]:
    return Look


@pytest.fixture
def track(tmp_path: Path) -> Iterator[Callable[..., OutboxTracker]]:
    """Start tracking a run in a folder of the test's; whatever is still tracked at the end is ended."""
    started: list[OutboxTracker] = []

    def start(uri: str | None = None, name: str = "run", system_metrics_s: float = 0) -> OutboxTracker:
        settings = TrackSettings("tiny/coca", name, uri, working_directory=tmp_path, system_metrics_s=system_metrics_s)
        started.append(OutboxTracker.start(tmp_path / "runs" / name, settings))
        return started[-1]

    yield start
    for tracker in started:
        tracker.finish("KILLED", wait_s=0)


def wait_until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def dead_uri() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


class Server:
    """A real `mlflow server`, which can be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("PYTEST_CURRENT_TEST", None)  # MLflow behaves otherwise under it
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self._folder
            )
        wait_until(self._answers)

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@pytest.fixture
def own_server(tmp_path: Path, _empty_store: Path) -> Iterator[Server]:
    """A server to maltreat; not yet started."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(_empty_store, folder / "mlflow.db")
    server = Server(folder)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, _empty_store: Path) -> Iterator[Server]:
    """A server that stays well."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(_empty_store, folder / "mlflow.db")
    server = Server(folder)
    server.start()
    yield server
    server.kill()


Manner = Literal["well", "error", "lose"]


class Proxy:
    """Stands before a server. Its manner is `well`, `error` (answers 500) or `lose`.

    `lose` lets the server make experiments and runs and take metrics, and loses its answers to that. `taken` are the
    metrics, key and step, that the server took, `lost` is how many answers were lost.
    """

    def __init__(self, port_behind: int, manner: Manner) -> None:
        self.port_behind = port_behind
        self.manner = manner
        self.taken: list[tuple[str, int]] = []
        self.lost = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.manner = "error"
        self._http.shutdown()
        self._http.server_close()

    def forward(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port_behind, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status == 200 and path.endswith("runs/log-batch"):
            self.taken += [
                (metric["key"], int(metric.get("step", 0))) for metric in json.loads(body).get("metrics", [])
            ]
        return answer.status, content, answer.getheader("Content-Type") or "application/json"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.manner == "error":
                    self.send_error(500, "the database is on fire")
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                status, content, kind = proxy.forward(self.command, self.path, body, headers)
                if proxy.manner == "lose" and self.path.endswith(("/create", "/log-batch")):
                    proxy.lost += 1
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None: ...

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)
        return Handler


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """Make a proxy before a port."""
    made: list[Proxy] = []

    def make(port_behind: int = 0, manner: Manner = "well") -> Proxy:
        made.append(Proxy(port_behind, manner))
        return made[-1]

    yield make
    for relay in made:
        relay.close()
