"""Blueprints of one test: files in an empty folder, the five papers as the library, and what a caret points at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from compose_vlp.blueprint.arguments import split_arguments
from compose_vlp.blueprint.nodes import Source
from compose_vlp.blueprint.reader import Reading, read_text
from compose_vlp.blueprint.resolve import Resolution, resolve
from compose_vlp.blueprint.state import FieldsOf
from compose_vlp.errors import Problem

PAPERS = Path(__file__).resolve().parent.parent / "data" / "papers"

Resolve = Callable[..., Resolution]


@pytest.fixture
def papers() -> Path:
    return PAPERS


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`files(**{"child": text})` writes `child.yaml` into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(named: Mapping[str, str] | None = None, **texts: str) -> None:
        for name, text in {**(named or {}), **texts}.items():
            path = tmp_path / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def load(files: Callable[..., None]) -> Resolve:
    """`load("albef", "alpha=0")` as a command would; `child=text` writes child.yaml before."""

    def resolved(*arguments: str, fields_of: FieldsOf | None = None, **texts: str) -> Resolution:
        files(**texts)
        names, overrides = split_arguments(arguments)
        return resolve(names, overrides, library=PAPERS, fields_of=fields_of)

    return resolved


@pytest.fixture
def child(load: Resolve) -> Resolve:
    """`child(text, *overrides)` is the resolution of `child.yaml` with that text."""

    def resolved(text: str, *overrides: str, fields_of: FieldsOf | None = None) -> Resolution:
        return load("child.yaml", *overrides, fields_of=fields_of, child=text)

    return resolved


def pointed(problem: Problem, lines: Mapping[str, tuple[str, ...]]) -> str:
    """`file:line:column` of a problem and the text that its carets stand under."""
    span = problem.span
    assert span is not None
    line = lines[span.file][span.line - 1]
    return f"{Path(span.file).name}:{span.line}:{span.column} {line[span.column - 1 : span.end_column - 1]}".rstrip()


def problems_of(resolution: Resolution) -> list[tuple[str, str]]:
    """Every problem as (place and text under the carets, message)."""
    lines = resolution.document.lines()
    return [(pointed(problem, lines), problem.message) for problem in resolution.problems]


def only(resolution: Resolution) -> Problem:
    """The one problem there is."""
    assert len(resolution.problems) == 1, [problem.message for problem in resolution.problems]
    return resolution.problems[0]


def read_problems(text: str) -> list[tuple[str, str]]:
    """What reading a text alone finds."""
    reading: Reading = read_text(text, "f.yaml")
    lines = {"f.yaml": Source("f.yaml", text.removeprefix("\ufeff")).lines}
    return [(pointed(problem, lines), problem.message) for problem in reading.problems]
