"""Several classes a record: rows, owners and soft scores, and records that are broken."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from compose_vlp.blueprint.inputs import LabelInput
from compose_vlp.data.fields import ManyLabelsField
from compose_vlp.data.source import BadRecord


def field(**settings: Any) -> ManyLabelsField:
    return ManyLabelsField("answers", LabelInput(many=True, classes=("yes", "no", "2"), **settings))


def test_classes_have_rows_owners_and_weights() -> None:
    read = field().read
    values: Any = field().stack([read(["yes", "yes", "no", "yes"], None), read({"2": 0.5, "no": 1}, None)])
    assert values["answers"].values.tolist() == [0, 1, 2, 1]
    assert values["answers.owner"].rows.tolist() == [0, 0, 1, 1]
    assert values["answers.weight"].values.tolist() == pytest.approx([0.75, 0.25, 0.5, 1.0])


@pytest.mark.parametrize(("count", "score"), [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_an_answer_scores_by_how_many_annotators_gave_it(count: int, score: float) -> None:
    vqa = field(weigh="vqa")
    assert vqa.read(["no"] * count + ["a rare answer"] * (10 - count), None) == {1: score}
    assert vqa.read({"no": count, "a rare answer": 1}, None) == {1: score}


@pytest.mark.parametrize(
    ("value", "says"),
    [([], "not a list"), ({}, "not a list"), (None, "answers is"), ({"yes": 2}, "from 0 to 1"),
     ({"yes": "much"}, "not a number"), (["yess"], "yes"), ([7], "below 3")],
)  # fmt: skip
def test_what_names_no_classes_is_a_bad_record(value: Any, says: str) -> None:
    with pytest.raises(BadRecord, match=says):
        field().read(value, None)


@pytest.mark.parametrize(
    ("value", "says"), [(["rare"], "none of the 3"), ({"yes": 0.5}, "count"), ({"yes": 0}, "count"), ([7], "below 3")]
)
def test_what_has_no_counts_of_classes_is_a_bad_record(value: Any, says: str) -> None:
    with pytest.raises(BadRecord, match=says):
        field(weigh="vqa").read(value, None)


def test_a_single_class_is_not_weighed() -> None:
    with pytest.raises(ValidationError, match="many: true"):
        LabelInput(weigh="vqa")
