"""What each of many processes holds, counted before there is any."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from compose_vlp.api import Blueprint
from compose_vlp.compiler.memory_plan import (
    GB,
    MemoryPlan,
    gathered_bytes,
    memory_plan,
    plans_text,
    rows_of_process,
    ways_out,
)
from compose_vlp.errors import UserError

MEMORY = {"weights": 8 * GB, "gradients": 8 * GB, "optimizer": 16 * GB, "activations": 24 * GB}


def plan(engine: str, world: int = 16, card: int | None = 80 * GB, shards: int = 8) -> MemoryPlan:
    return memory_plan(
        MEMORY, GB, engine=engine, world=world, shards=shards, rows=64, card=card, stage="pretrain", accumulate=2
    )


def test_whole_copies_hold_everything_once() -> None:
    assert plan("ddp").total == (8 + 8 + 16 + 24 + 1) * GB


@pytest.mark.parametrize(("engine", "shards", "pieces"), [("fsdp", 8, 16), ("hybrid", 8, 8), ("hybrid", 4, 4)])
def test_shards_hold_their_part_and_all_activations(engine: str, shards: int, pieces: int) -> None:
    divided = plan(engine, shards=shards)
    assert divided.shards == pieces
    assert divided.total == (8 + 8 + 16) * GB // pieces + 25 * GB


def test_it_fits_where_something_is_left_for_the_driver() -> None:
    assert plan("fsdp").fits is True
    assert plan("ddp", card=58 * GB).fits is False
    assert plan("ddp", card=None).fits is None


def test_ways_out_are_engines_that_fit_and_pieces_that_divide_the_rows() -> None:
    whole, divided = plan("ddp", card=60 * GB), plan("fsdp", card=60 * GB)
    ways = ways_out(whole, [divided])
    assert any("`distribute: fsdp`" in way for way in ways)
    assert any("`stages.pretrain.accumulate=4`" in way for way in ways), "2 pieces, each in 2 of those that it has"
    assert "more processes" in ways_out(plan("ddp", card=32 * GB), [])[0]


def test_where_no_engine_fits_the_way_out_is_a_change_that_does() -> None:
    changes = ["stages.pretrain.batch=128", "stages.pretrain.accumulate=2"]
    too_large = [
        replace(each, card=GB // 10) for each in Blueprint.load("tiny/coca", overrides=changes).memory(world=2)
    ]
    (way,) = re.findall(r"= `(stages\.pretrain\.accumulate=\d+)` under fsdp", text_of(too_large))
    again = Blueprint.load("tiny/coca", overrides=[changes[0], way]).memory(world=2)
    assert "None of them fits 100 MB" in text_of(too_large)
    assert {each.engine: replace(each, card=GB // 10).fits for each in again}["fsdp"]


def test_the_precision_that_is_counted_in_is_said() -> None:
    half = Blueprint.load("tiny/coca", overrides=["precision=bf16"]).memory(world=2)
    exact = Blueprint.load("tiny/coca", overrides=["precision=fp32"]).memory(world=2)
    assert "activations in bf16, the rest in float32" in text_of(half)
    assert "in float32" in text_of(exact) and "bf16" not in text_of(exact)
    assert {each.as_json()["precision"] for each in half} == {"bf16"}
    for rounded, whole in zip(half, exact, strict=True):
        assert rounded.activations is not None and whole.activations is not None
        assert rounded.activations < 0.8 * whole.activations
        assert rounded.weights == whole.weights and rounded.gradients == whole.gradients


def test_a_line_an_engine_fits_a_terminal_of_eighty_columns() -> None:
    plans = [replace(plan(engine), whole_layers=798 * GB // 1000) for engine in ("ddp", "fsdp", "hybrid")]
    lines = text_of([replace(each, card=GB) for each in plans], width=80).splitlines()
    assert [line.split()[0] for line in lines if "too large" in line] == ["ddp", "fsdp", "hybrid"]
    assert not any("…" in line for line in lines)


def text_of(plans: Sequence[MemoryPlan], width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as caught:
        console.print(plans_text(plans))
    return caught.get()


def test_gathered_features_and_scores_are_counted_of_the_other_processes_alone() -> None:
    features, scores = ("gathered main", 10), ("main", "gathered main")
    assert gathered_bytes([("main", 10), features], rows=4, world=1) == 0
    assert gathered_bytes([features], rows=4, world=3) == 4 * (12 - 4) * 10
    assert gathered_bytes([scores], rows=4, world=3) == 3 * 4 * (4 * 12 - 4 * 4)


def test_a_batch_that_processes_do_not_divide_names_those_that_they_do() -> None:
    assert rows_of_process(64, 4) == 16
    with pytest.raises(UserError, match="3 processes do not divide a batch of 64") as caught:
        rows_of_process(64, 3)
    assert "63 and 66" in caught.value.problems[0].hints[0]


def test_a_blueprint_counts_each_engine_at_its_own_batch() -> None:
    plans = Blueprint.load("tiny/coca").memory(world=2, card="h100")
    assert [each.engine for each in plans] == ["ddp", "fsdp"]
    assert {each.rows for each in plans} == {32}
    assert all(each.fits for each in plans)
    whole, divided = plans
    assert divided.weights * 2 in (whole.weights, whole.weights + 1)
    assert whole.activations == divided.activations
    assert whole.gathered > 0


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ([], {"world": 2, "card": "h10"}, "no card is known as 'h10'"),
        ([], {"world": 3}, "3 processes do not divide"),
        (
            ["stages.pretrain.accumulate=4"],
            {"world": 2, "batch": 12},
            "2 processes of 4 pieces do not divide a batch of 12",
        ),
    ],
)
def test_mistakes_are_told(changes: list[str], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Blueprint.load("tiny/coca", overrides=changes).memory(**arguments)  # type: ignore[arg-type]


def test_what_a_stage_says_of_batch_pieces_and_shards_is_obeyed() -> None:
    changes = [
        "~stages.pretrain.batch",
        "batch=96",
        "stages.pretrain.accumulate=2",
        "distribute={use: hybrid, shards: 2}",
    ]
    plans = Blueprint.load("tiny/coca", overrides=changes).memory(world=4)
    assert {each.rows for each in plans} == {96 // 4 // 2}
    assert {each.engine: each.shards for each in plans} == {"ddp": 1, "fsdp": 4, "hybrid": 2}
