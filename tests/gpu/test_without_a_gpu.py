"""`pytest -m gpu` fails where there is no GPU; everything else only leaves out what needs one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


def session(expression: str) -> Any:
    return SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(markexpr=expression)))


def test_asking_for_gpu_tests_without_a_gpu_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "_sees_gpu", lambda: False)
    with pytest.raises(pytest.exit.Exception, match="torch sees no GPU here") as caught:
        conftest.pytest_sessionstart(session("gpu"))
    assert caught.value.returncode == 2
    conftest.pytest_sessionstart(session(""))


def test_with_a_gpu_nothing_is_refused_or_skipped(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(conftest, "_sees_gpu", lambda: True)
    conftest.pytest_sessionstart(session("gpu"))
    before = list(request.node.own_markers)
    request.node.add_marker("gpu")
    conftest.pytest_collection_modifyitems([request.node])
    assert [mark.name for mark in request.node.own_markers if mark not in before] == ["gpu"]
