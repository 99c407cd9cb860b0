"""Whether a tracking store can be reached, and why not."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from compose_vlp.tracking.reach import why_unreachable


def test_a_store_that_is_still_to_be_made_can_be_reached(tmp_path: Path) -> None:
    assert why_unreachable(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}") is None
    assert not (tmp_path / "runs").exists(), "asking makes nothing"


def test_a_store_that_is_there_can_be_reached(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "mlflow.db").execute("CREATE TABLE runs (id)").connection.close()
    assert why_unreachable(f"sqlite:///{tmp_path / 'mlflow.db'}") is None


def test_a_file_that_is_no_store_says_so(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("hello, this is no database at all, but a text of some length " * 20)
    assert "file is not a database" in (why_unreachable(f"sqlite:///{tmp_path / 'mlflow.db'}") or "")


@pytest.mark.parametrize("there", [False, True])
def test_a_store_that_may_not_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if there:
        (tmp_path / "mlflow.db").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert "is not writable" in (why_unreachable(f"sqlite:///{tmp_path / 'mlflow.db'}") or "")


def test_a_server_that_listens_can_be_reached_and_one_that_is_gone_cannot() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert why_unreachable(f"http://127.0.0.1:{port}") is None
    assert why_unreachable(f"http://127.0.0.1:{port}") == f"127.0.0.1:{port}: the connection was refused"


def test_other_stores_are_not_judged() -> None:
    assert why_unreachable("databricks") is None
