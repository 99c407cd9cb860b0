"""Mappings to typed models: by the field's annotation, with the place of every mistake."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.reader import read_text
from compose_vlp.blueprint.scalars import Quantity
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.blueprint.typed import NOTHING, read_model, read_typed
from compose_vlp.errors import Problem
from tests.blueprint.conftest import pointed

NO_UNIT = "expected a number and a unit, such as `10 epochs`, `500 steps`, `1e6 samples`, `5 %` (a unit is missing)"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    width: int = Field(gt=0, description="features of a token")
    rate: float = 0.0
    name: str = "x"
    flag: bool = False
    norm: Literal["pre", "post"] = "pre"
    clamp: tuple[float, float] | None = None
    experts: list[str] = []
    size: int | tuple[int, int] = 1
    inner: Inner | None = None
    alpha: float | Schedule = 0.0
    length: Quantity | None = None
    origin: str | None = Field(None, alias="from")
    free: dict[str, Any] = {}

    @model_validator(mode="after")
    def _flag_needs_rate(self) -> Config:
        if self.flag and not self.rate:
            raise ValueError("`flag` needs a `rate`")
        return self


def read(fields: str, params: str = "{a: 1}") -> tuple[Config | None, list[tuple[str, str]], list[Problem]]:
    text = f"params: {params}\nc: {{{fields}}}\n"
    reading = read_text(text, "f.yaml")
    entry = reading.root.entry("c")
    assert entry is not None
    assert isinstance(entry.value, Mapping)
    document = Document(reading.root, sources={"f.yaml": reading.source})
    model, problems = read_model(entry.value, Config, document, entry.key.span)
    return model, [(pointed(p, document.lines()), p.message) for p in problems], problems


def test_text_is_read_by_the_fields_type() -> None:
    model, problems, _ = read(
        "width: 010, rate: 1e-4, name: no, flag: true, norm: post, clamp: [0.001, 0.5], experts: [on, '1'], "
        "size: [2, 3], inner: {flip: 0.5}, alpha: 0.4, length: 2 epochs, from: a, free: {x: 1, y: no, z: [true, '1']}"
    )
    assert problems == []
    assert model == Config(
        width=10, rate=1e-4, name="no", flag=True, norm="post", clamp=(0.001, 0.5), experts=["on", "1"], size=(2, 3),
        inner=Inner(flip=0.5), alpha=0.4, length=Quantity(2, "epochs"), origin="a",
        free={"x": 1, "y": "no", "z": [True, "1"]},
    )  # fmt: skip


def test_null_is_nothing_only_where_nothing_may_be() -> None:
    assert read("width: 1, clamp: null, name: null")[0] == Config(width=1, clamp=None, name="null")
    assert read("width: null")[1] == [("f.yaml:2:12 null", "`width` cannot be `null`: expected a whole number")]


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ("width: wide", "f.yaml:2:12 wide", "`width` cannot be `wide`: expected a whole number"),
        ("width: 0", "f.yaml:2:12 0", "`width` should be greater than 0; it is `0`"),
        ("width: 1, flag: on", "f.yaml:2:21 on", "`flag` cannot be `on`: expected `true` or `false`"),
        ("width: 1, norm: per", "f.yaml:2:21 per", "`norm` cannot be `per`: expected pre or post"),
        ("width: 1, inner: {flip: 2}", "f.yaml:2:29 2", "`flip` should be less than or equal to 1; it is `2`"),
        ("width: 1, inner: {flop: 2}", "f.yaml:2:23 flop", "no field is called `flop`"),
        ("width: 1, clamp: [1]", "f.yaml:2:22 [1]", "`clamp` is a list of 2, not of 1"),
        ("width: 1, clamp: 1", "f.yaml:2:22 1", "`clamp` is a list, not one value"),
        ("width: [1]", "f.yaml:2:12 [1]", "`width` is one value, not a list"),
        ("width: 1, rate: {a: 1}", "f.yaml:2:21 {a: 1}", "`rate` is one value, not a mapping"),
        ("width: 1, length: 5", "f.yaml:2:23 5", f"`length` cannot be `5`: {NO_UNIT}"),
        ("width: 1, flag: true", "f.yaml:2:21 true", "`flag` needs a `rate`"),
        ("rate: 1", "f.yaml:2:1 c", "`width` is missing"),
        ("width: 1, alpha: {linear: [0, 1], cosine: [0, 1]}", "f.yaml:2:31 [0, 1]",
         "a schedule has one of constant, linear, cosine, exponential, step, not linear and cosine"),
        ("width: 1, alpha: {step: [0, 1]}", "f.yaml:2:29 [0, 1]",
         "a `step` comes `at` some time: {step: [0, 0.2], at: 12000 steps}"),
        ("width: 1, alpha: {linear: [0, 1], at: 5 steps}", "f.yaml:2:43 5 steps",
         "`at` says when a `step` comes: {step: [0, 0.2], at: 12000 steps}"),
        ("width: 1, alpha: {step: [0, 1], at: 1 epoch, over: 5 steps}", "f.yaml:2:56 5 steps",
         "`over` belongs to `linear`, `cosine` and `exponential`"),
    ],
)  # fmt: skip
def test_a_mistake_stands_at_its_value(fields: str, place: str, message: str) -> None:
    assert read(fields)[1] == [(place, message)]


def test_all_mistakes_of_a_mapping_are_found_in_one_go() -> None:
    assert [message for _, message in read("rate: x, flag: no, other: 3")[1]] == [
        "`rate` cannot be `x`: expected a number",
        "`flag` cannot be `no`: expected `true` or `false`",
        "no field is called `other`",
        "`width` is missing",
    ]


def test_a_field_that_stands_there_misspelt_is_not_missing_too() -> None:
    assert [message for _, message in read("wdth: 3")[1]] == ["no field is called `wdth`"]


def test_where_a_mapping_is_expected_its_fields_are_told() -> None:
    for written, form in (("inner: 0.5", "one value"), ("inner: [0.5]", "a list")):
        _, problems, (problem,) = read(f"width: 1, {written}")
        assert problems[0][1] == f"`inner` is a mapping, not {form}"
        assert problem.hints == ("fields: flip",)
    _, _, (problem,) = read("width: 1, clamp: 1")
    assert problem.hints == (), "a list has none"


def test_near_names_and_descriptions_are_offered() -> None:
    problems = read("width: 1, norm: posst, experst: [a]")[2]
    assert [problem.hints for problem in problems] == [("did you mean 'post'?",), ("did you mean 'experts'?",)]
    assert read("rate: 1")[2][0].hints == ("width: features of a token",)


def test_a_param_is_read_by_the_type_of_its_reader() -> None:
    model, problems, _ = read("width: $n, name: $n, clamp: $pair", "{n: 012, pair: [0, 1]}")
    assert problems == []
    assert model == Config(width=12, name="012", clamp=(0, 1))


def test_a_wrong_param_is_reported_where_it_is_written_with_its_reader() -> None:
    _, problems, raw = read("width: $n", "{n: many}")
    assert problems == [("f.yaml:1:13 many", "`width` cannot be `many`: expected a whole number")]
    assert [(label, str(span)) for label, span in raw[0].related] == [("read here", "f.yaml:2:12")]


def test_a_schedule_goes_only_where_a_value_may_change() -> None:
    model, problems, _ = read("width: 1, alpha: $s", "{s: {linear: [0, 0.4], over: 1 epoch}}")
    assert problems == []
    assert model is not None
    assert isinstance(model.alpha, Schedule)
    assert model.alpha.over == Quantity(1, "epochs")
    assert read("width: $s", "{s: {linear: [0, 0.4]}}")[1] == [("f.yaml:2:12 $s", "`width` cannot follow a schedule")]


def test_what_was_reported_before_is_not_reported_again() -> None:
    model, problems, _ = read("width: 1, name: f(a, b), rate: $nowhere")
    assert model is None
    assert problems == []


def test_one_value_is_read_by_an_annotation() -> None:
    document = Document(read_text("a: 1e-4\nb: {cosine: [1, 0]}\nc: x\n", "f.yaml").root)
    a, b, c = (entry.value for entry in document.root)
    assert read_typed(a, float | Schedule, document) == (1e-4, [])
    assert read_typed(b, float | Schedule, document)[0] == Schedule(cosine=(1, 0))
    value, problems = read_typed(c, Annotated[float, Field(ge=0)], document, "weight")
    assert value is NOTHING
    assert [problem.message for problem in problems] == ["`weight` cannot be `x`: expected a number"]


@pytest.mark.parametrize(
    ("fields", "form", "ends", "first"),
    [
        ({"constant": 3.0}, "constant", (3.0, 3.0), 3.0),
        ({"linear": (0.0, 0.4), "over": "1 epoch"}, "linear", (0.0, 0.4), 0.0),
        ({"cosine": (1e-4, 1e-5), "warmup": "1000 steps"}, "cosine", (1e-4, 1e-5), 0.0),
        ({"cosine": (1e-4, 1e-5), "warmup": "10 %", "warmup_from": 1e-6}, "cosine", (1e-4, 1e-5), 1e-6),
    ],
)
def test_a_schedule_has_one_shape(fields: dict[str, Any], form: str, ends: tuple[float, float], first: float) -> None:
    schedule = Schedule.model_validate(fields)
    assert (schedule.form, (schedule.start, schedule.end), schedule.first) == (form, ends, first)
