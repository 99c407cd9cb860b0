"""Fixtures of the checker's tests: a blueprint written for one test, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.kinds import Kind
from tests.graph import support

Messages = list[tuple[str, str]]


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., CheckedBlueprint]:
    """`child(text, *overrides)` checks a file `child.yaml` with that text."""

    def load(text: str, *overrides: str, kinds: tuple[Kind, ...] = ()) -> CheckedBlueprint:
        file = tmp_path / "child.yaml"
        file.write_text(text, encoding="utf-8")
        return support.checked(str(file), *overrides, kinds=kinds)

    return load


@pytest.fixture
def problems_in(child: Callable[..., CheckedBlueprint]) -> Callable[..., tuple[tuple[Problem, ...], dict[str, object]]]:
    """The mistakes of `child.yaml` with the lines that they point into."""

    def load(text: str, *overrides: str, kinds: tuple[Kind, ...] = ()) -> tuple[tuple[Problem, ...], dict[str, object]]:
        try:
            child(text, *overrides, kinds=kinds)
        except BlueprintError as error:
            return error.problems, dict(error.excerpts)
        return (), {}

    return load


@pytest.fixture
def messages(problems_in: Callable[..., tuple[tuple[Problem, ...], dict[str, object]]]) -> Callable[..., Messages]:
    """Every mistake of `child.yaml` as (place and text under the carets, message)."""

    def load(text: str, *overrides: str, kinds: tuple[Kind, ...] = ()) -> Messages:
        problems, lines = problems_in(text, *overrides, kinds=kinds)
        return [(support.pointed(problem, lines), problem.message) for problem in problems]

    return load


@pytest.fixture
def only(problems_in: Callable[..., tuple[tuple[Problem, ...], dict[str, object]]]) -> Callable[..., Problem]:
    """The one mistake of `child.yaml`."""

    def load(text: str, *overrides: str, kinds: tuple[Kind, ...] = ()) -> Problem:
        problems, _ = problems_in(text, *overrides, kinds=kinds)
        assert len(problems) == 1, [str(problem) for problem in problems]
        return problems[0]

    return load
