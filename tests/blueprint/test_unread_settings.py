"""Settings that could not be obeyed: values out of bounds, lengths of nothing, what nothing would read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Mapping, Source
from compose_vlp.blueprint.reader import read_value
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.blueprint.sections import Evaluate, Generate, Optimizer, Rule, Stage, Start, Teacher
from compose_vlp.blueprint.typed import read_model
from compose_vlp.errors import Span

GENERATE = "generate: l, over: c"
STAGE = "data: d, losses: [a]"


@pytest.mark.parametrize(
    ("model", "fields", "place", "message"),
    [
        (Optimizer, "lr: 1, betas: [0.9, 1.0]", "1.0", "less than 1"),
        (Optimizer, "lr: 1, betas: [1, 0.9]", "1", "less than 1"),
        (Optimizer, "lr: {linear: [1e-3, -1e-3]}", "[1e-3, -1e-3]", "this schedule reaches -0.001"),
        (Optimizer, "lr: {cosine: [1, 0], warmup: 1 epoch, warmup_from: -2}", "-2", "this schedule reaches -2"),
        (Teacher, "decay: {linear: [0.9, 1.2]}", "[0.9, 1.2]", "less than or equal to 1; this schedule reaches 1.2"),
        (Teacher, "decay: {constant: 1.5}", "1.5", "this schedule reaches 1.5"),
        (Schedule, "linear: [0, 1], warmup_from: 2", "2", "there is none: add `warmup`"),
        (Schedule, "linear: [0, 1], over: 0 steps", "0 steps", "no time at all"),
        (Schedule, "step: [0, 1], at: 0 steps", "0 steps", "no time for the first value"),
        (Schedule, "step: [0, 1], at: 0 %", "0 %", "no time for the first value"),
        (Rule, "match: a", "a", "`match` alone changes nothing"),
        (Rule, "match: [], lr: 1", "[]", "an empty list names nothing"),
        (Start, "new: []", "[]", "an empty list names nothing"),
        (Start, "from: f, to: []", "[]", "an empty list names nothing"),
        (Stage, f"{STAGE}, length: 0 steps", "0 steps", "no time at all"),
        (Stage, f"{STAGE}, length: 10 %", "10 %", "a share of a stage"),
        (Stage, f"{STAGE}, checkpoint: 0 epochs", "0 epochs", "no time at all"),
        (Stage, f"{STAGE}, train: []", "[]", "an empty list names nothing"),
        (Evaluate, "every: 1 epoch, rerank: {top: 2}", "{top: 2}", "`rerank` is for the task `reranking`"),
        (Evaluate, "every: 1 epoch, tasks: [retrieval], zero_shot: {label: x}", "{label: x}", "`tasks` leaves out"),
        (Generate, f"{GENERATE}, beams: 3, top_p: 0.5", "3", "`beams` and `top_p` exclude each other"),
        (Generate, f"{GENERATE}, beams: 3, top_k: 5", "3", "`beams` and `top_k` exclude each other"),
        (Generate, f"{GENERATE}, beams: 3, temperature: 2", "3", "`beams` and `temperature` exclude each other"),
        (Generate, f"{GENERATE}, length_penalty: 2", "2", "puts beams in order"),
        (Generate, f"{GENERATE}, min_length: 9, max_length: 8", "9", "min_length 9 is more than max_length 8"),
    ],
)  # fmt: skip
def test_what_could_not_be_obeyed_is_refused_at_its_place(
    model: type[BaseModel], fields: str, place: str, message: str
) -> None:
    value, problems, text = _read(model, fields)
    assert value is None
    assert len(problems) == 1
    span: Span = problems[0].span
    assert text[span.column - 1 : span.end_column - 1] == place
    assert message in problems[0].message


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (Optimizer, "lr: {linear: [0, 1e-3]}, betas: [0, 0.999]"),
        (Teacher, "decay: {linear: [0, 1], warmup: 3 steps, warmup_from: 0.5}"),
        (Stage, f"{STAGE}, length: 1 steps, freeze: [], checkpoint: 10 %"),
        (Evaluate, "every: 0 steps, zero_shot: {label: x}"),
        (Evaluate, "every: 0 steps, tasks: [reranking], rerank: {top: 2}"),
        (Generate, f"{GENERATE}, beams: 2, length_penalty: 2, min_length: 8, max_length: 8"),
        (Generate, f"{GENERATE}, top_k: 5, top_p: 0.5, temperature: 2"),
    ],
)
def test_the_bounds_themselves_are_taken(model: type[BaseModel], fields: str) -> None:
    value, problems, _ = _read(model, fields)
    assert not problems
    assert value is not None


def _read(model: type[BaseModel], fields: str) -> tuple[Any, list[Any], str]:
    text = f"{{{fields}}}"
    source = Source("f.yaml", text)
    node = read_value(source, 1, 1).node
    assert isinstance(node, Mapping)
    value, problems = read_model(node, model, Document(node, sources={"f.yaml": source}), Span("f.yaml", 1, 1, 2))
    return value, problems, text
