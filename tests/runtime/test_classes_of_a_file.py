"""Classes that are the lines of a file: missed before a run begins, and kept by a run as part of its model."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.inputs import LabelInput
from compose_vlp.data.tables import class_names
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.state.tables import keep_tables, with_kept_tables
from tests.models import TOWERS


def questions(file: Path | str, classes: int = 3) -> Blueprint:
    data = ["data.questions={use: scenes, size: 16, count: 8}", "stages.finetune.batch=4"]
    answers = [f"components.judge.classes={classes}", f"inputs.answers.classes='{file}'"]
    return Blueprint.load("tiny/albef", "tasks/vqa_scores", overrides=[*TOWERS, *data, *answers])


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    file = tmp_path / "answers.txt"
    file.write_bytes("red\r\n\r\n  dark blue \nyes".encode("utf-16"))
    return file


def names(checked: CheckedBlueprint) -> tuple[str, ...] | None:
    spec = checked.inputs["answers"]
    assert isinstance(spec, LabelInput)
    return class_names(spec)


def test_lines_are_the_names_of_classes(answers: Path) -> None:
    assert names(questions(answers).check()) == ("red", "dark blue", "yes")


def test_more_lines_than_the_head_has_classes_are_told_by_check(answers: Path) -> None:
    with pytest.raises(BlueprintError, match="classes 3 of answers against classes 2 of verdict"):
        questions(answers, classes=2).check()


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no file"), (b"\n \n", "is empty"), (b"\xff\x00\xff", "is no text in UTF-8")]
)
def test_a_file_that_names_no_classes_is_told_before_a_run_begins(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "classes.txt"
    if content is not None:
        file.write_bytes(content)
    blueprint = questions(file, classes=0x10)
    with pytest.raises(BlueprintError, match=says) as error:
        blueprint.train(out=tmp_path / "run", track=False)
    (problem,) = error.value.problems
    assert problem.span is not None and not (tmp_path / "run").exists()
    line = blueprint.document.lines()[problem.span.file][problem.span.line - 1]
    assert "classes.txt" in line[problem.span.column - 1 : problem.span.end_column - 1]


def test_a_run_keeps_its_own_copy(answers: Path, tmp_path: Path) -> None:
    checked = questions(answers).check()
    keep_tables(checked, tmp_path)
    answers.write_text("other\nwords\nhere\n", encoding="utf-8")
    assert names(with_kept_tables(checked, tmp_path)) == ("red", "dark blue", "yes")
    changed = answers.with_name("changed.txt")
    changed.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert names(with_kept_tables(questions(changed).check(), tmp_path)) == ("one", "two", "three")
