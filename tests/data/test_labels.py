"""Classes, identifiers and numbers of records: by name or number, as values or as the texts of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose_vlp.blueprint.inputs import LabelInput
from compose_vlp.data import BadRecord, open_source
from compose_vlp.data.labels import Classes, read_id, read_number
from compose_vlp.data.loader import Loader
from compose_vlp.data.source import ClassNumber
from compose_vlp.errors import UserError

ANIMALS = ("dog", "cat", "7")


@pytest.mark.parametrize(
    ("value", "number"),
    [("cat", 1), (1, 1), ("1", 1), (" 1 ", 1), (True, 1), ("True", 1), ("FALSE", 0), ("7", 2), (np.int64(2), 2)],
)
def test_a_class_is_a_name_or_a_number_as_text_too(value: Any, number: int) -> None:
    assert Classes(ANIMALS)(value, "label") == number


@pytest.mark.parametrize(("value", "number"), [("17", 17), (17, 17), ("true", 1), (np.uint8(3), 3), (np.True_, 1)])
def test_without_names_a_class_is_a_number(value: Any, number: int) -> None:
    assert Classes(None)(value, "label") == number


@pytest.mark.parametrize("value", ["Cat", "-1", -1, 3, "3", "", None, 1.0, "1.0", "1e0", [1], float("nan"), "9" * 30])
def test_what_is_no_class_breaks_the_record(value: Any) -> None:
    with pytest.raises(BadRecord, match="label is"):
        Classes(ANIMALS)(value, "label")
    if value != "Cat" and value not in (3, "3"):
        with pytest.raises(BadRecord, match="not a number"):
            Classes(None)(value, "label")


def test_the_nearest_class_is_offered() -> None:
    with pytest.raises(BadRecord, match=r"label is 'Cat', not one of the 3 classes; did you mean 'cat'\?"):
        Classes(ANIMALS)("Cat", "label")
    with pytest.raises(BadRecord, match="label is 3, not one of dog, cat, 7, or a number below 3"):
        Classes(ANIMALS)(3, "label")


def test_classes_of_one_name_are_told_apart_by_number() -> None:
    read = Classes(("missile", "crane", "cat", "missile"))
    assert [read(value, "label") for value in ("crane", 0, "3", "cat")] == [1, 0, 3, 2]
    with pytest.raises(BadRecord, match="label is 'missile', the name of the classes 0 and 3: give their number"):
        read("missile", "label")
    named = ("missile", "crane", "cat", "missile")
    assert read(ClassNumber.of(3, named), "label") == 3, "the same list of names: the numbers mean the same"


def test_a_class_that_the_data_names_is_taken_by_its_name() -> None:
    read = Classes(("dog", "cat", "cow"))
    assert [read(ClassNumber.of(number, ("cat", "dog")), "label") for number in (0, 1)] == [1, 0]
    assert Classes(None)(ClassNumber.of(1, ("cat", "dog")), "label") == 1
    with pytest.raises(BadRecord, match="label is -1, and the data has 2 classes"):
        read(ClassNumber.of(-1, ("cat", "dog")), "label")
    with pytest.raises(UserError, match="the data has a class 'hors', which is not among `classes`") as caught:
        Classes(("dog", "horse"))(ClassNumber.of(0, ("dog", "hors")), "label")
    hints = caught.value.problems[0].hints
    assert hints[0] == "did you mean 'horse'?"
    assert hints[1:3] == ("the data's classes: dog, hors", "`classes`: dog, horse")


def test_names_of_a_data_sets_classes_reach_the_batch(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    kind = datasets.Features({"label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = datasets.Dataset.from_list([{"label": number % 2} for number in range(4)], features=kind)
    rows.to_parquet(str(tmp_path / "a.parquet"))
    source = open_source({"use": "datasets", "path": str(tmp_path / "a.parquet")})
    for classes, expected in ((("dog", "cat"), [1, 0, 1, 0]), (None, [0, 1, 0, 1])):
        loader = Loader(source, {"label": LabelInput(classes=classes)}, {}, batch=4, train=False)
        assert next(iter(loader)).values["label"].values.tolist() == expected
    with pytest.raises(UserError, match="has a class 'cat'"):
        next(iter(Loader(source, {"label": LabelInput(classes=("dog", "hog"))}, {}, batch=4, train=False)))


# --- identifiers and numbers --------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_number_is_the_same_id_as_its_text(number: int) -> None:
    assert read_id(str(number), "id") == read_id(number, "id") == number


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=30).filter(lambda text: not text.strip().lstrip("-").isdigit()))
def test_another_text_is_an_id_of_its_own(text: str) -> None:
    assert 0 <= read_id(text, "id") < 1 << 63


def test_texts_that_only_resemble_a_number_are_ids_of_their_own() -> None:
    texts = ["7", "007", "7.0", "+7", " 7", "٧", str(1 << 63), str(1 << 70)]
    assert len({read_id(text, "id") for text in texts}) == len(texts)
    for value in (1 << 63, 7.0, True, None):
        with pytest.raises(BadRecord, match=r"not an id|64 bits"):
            read_id(value, "id")


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("-3.5", -3.5), (" .5 ", 0.5), ("1e-3", 0.001), ("7.", 7)])
def test_a_number_may_be_a_text(text: str, number: float) -> None:
    assert read_number(text, "score") == number


@pytest.mark.parametrize("value", ["", "3,5", "nan", "inf", "1_000", "0x1", "٣", "three", True, None])
def test_other_texts_are_no_numbers(value: Any) -> None:
    with pytest.raises(BadRecord, match=r"score is .*, not a number"):
        read_number(value, "score")
