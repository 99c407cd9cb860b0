"""A stage that is too short for a schedule, or for what compares rows, is told of before its first step."""

from __future__ import annotations

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.checking.trainings import without_others


def notes(name: str, *overrides: str) -> list[str]:
    blueprint = Blueprint.load(name, overrides=list(overrides))
    return [note for note in blueprint.check().notes if "never reaches" in note]


def lr(text: str) -> str:
    return f"params.lr={text}"


@pytest.mark.parametrize(
    ("length", "schedule"),
    [
        ("6 steps", "{cosine: [1e-3, 1e-5], over: 5 steps, warmup: 10 steps}"),
        ("2 epochs", "{linear: [1e-3, 0], over: 1 epoch, warmup: 1 epoch}"),
        ("640 samples", "{linear: [1e-3, 0], over: 320 samples, warmup: 5 steps}"),
        ("100 steps", "{exponential: [1e-3, 1e-4], over: 30 steps, warmup: 40 %}"),
        ("100 steps", "{step: [1e-3, 1e-4], at: 30 steps, warmup: 40 %}"),
    ],
)
def test_a_warm_up_that_takes_all_of_the_schedule_is_a_mistake(length: str, schedule: str) -> None:
    overrides = [f"stages.pretrain.length={length}", "stages.pretrain.batch=64", lr(schedule)]
    with pytest.raises(BlueprintError, match="the learning rate warms up for") as mistake:
        Blueprint.load("tiny/coca", overrides=overrides).check()
    (problem,) = mistake.value.problems
    assert problem.span is not None and problem.span.file == "command line"


@pytest.mark.parametrize(
    ("length", "schedule", "value"),
    [
        ("6 steps", "{cosine: [1e-3, 1e-5], warmup: 1000 steps}", "0.001"),
        ("2 epochs", "{linear: [1e-3, 0], warmup: 3 epochs}", "0.001"),
        ("600 steps", "{constant: 1e-3, warmup: 1e6 samples}", "0.001"),
        ("6 steps", "{linear: [1e-3, 2e-5], over: 7 steps}", "2e-05"),
        ("1e4 samples", "{exponential: [1e-3, 2e-5], over: 5000 steps}", "2e-05"),
        ("6 steps", "{step: [1e-3, 2e-5], at: 6 steps}", "2e-05"),
        ("2 epochs", "{step: [1e-3, 2e-5], at: 3 epochs}", "2e-05"),
    ],
)
def test_what_a_stage_never_reaches_is_told_with_its_place(length: str, schedule: str, value: str) -> None:
    (note,) = notes("tiny/coca", f"stages.pretrain.length={length}", lr(schedule))
    assert note.endswith(f"it never reaches {value} (command line:3)")


@pytest.mark.parametrize(
    ("length", "schedule"),
    [
        ("6 steps", "{cosine: [1e-3, 1e-5]}"),
        ("6 steps", "{cosine: [1e-3, 1e-5], warmup: 50 %}"),
        ("6 steps", "{cosine: [1e-3, 1e-5], warmup: 6 steps}"),
        ("6 steps", "{linear: [1e-3, 1e-3], over: 60 steps}"),
        ("6 steps", "{step: [1e-3, 1e-4], at: 5 steps}"),
        ("2 epochs", "{cosine: [1e-3, 1e-5], warmup: 1000 steps, over: 2 epochs}"),
        ("6 steps", "1e-3"),
    ],
)
def test_what_fits_or_cannot_be_known_yet_is_not_told(length: str, schedule: str) -> None:
    assert notes("tiny/coca", f"stages.pretrain.length={length}", lr(schedule)) == []


def test_weights_settings_of_losses_rules_and_decays_are_looked_at() -> None:
    ramp = "{linear: [0.1, 0.5], over: 2000 steps}"
    actual = notes("tiny/albef", f"params.alpha={ramp}", "stages.pretrain.length=100 steps")
    assert [note.split(":")[0] for note in actual] == [
        "stage `pretrain` has 100 steps, and $alpha (`alpha` of `itc`) takes 2000 steps"
    ]
    actual = notes("tiny/albef", f"teachers.momentum.decay={ramp}", "stages.pretrain.length=100 steps")
    assert any("the decay of `momentum` takes 2000 steps" in note for note in actual)
    weight = ("+params.w=" + ramp, "losses.captioning.weight=$w", "stages.pretrain.length=100 steps")
    assert "$w (the weight of `captioning`) takes" in notes("tiny/coca", *weight)[0]
    rule = f"optimizer.rules=[{{match: vision, lr: {ramp}}}]"
    assert "the learning rate of vision takes" in notes("tiny/coca", rule, "stages.pretrain.length=100 steps")[0]


@pytest.mark.parametrize("name", ["albef", "blip", "coca", "coca_openclip_vit_b_32", "tiny/albef", "tiny/coca"])
def test_published_recipes_reach_everything(name: str) -> None:
    assert notes(name) == []


@pytest.mark.parametrize(("name", "who"), [("tiny/coca", "`contrastive`"), ("tiny/albef", "`hard`")])
def test_a_batch_of_one_has_nothing_to_be_compared_with(name: str, who: str) -> None:
    with pytest.raises(BlueprintError, match="has one record a step") as mistake:
        Blueprint.load(name, overrides=["stages.pretrain.batch=1"]).check()
    (problem,) = mistake.value.problems
    assert who in problem.message and problem.span is not None and problem.span.file == "command line"


def test_a_queue_and_losses_of_single_rows_are_enough_for_one_record() -> None:
    Blueprint.load("tiny/coca", overrides=["stages.pretrain.batch=1", "losses.contrastive.weight=0"]).check()
    albef = Blueprint.load("tiny/albef").check()
    assert without_others(albef, ["itc"], gathered=True) == []


def test_rows_of_other_processes_are_others_where_they_are_gathered() -> None:
    coca, albef = (Blueprint.load(f"tiny/{name}").check() for name in ("coca", "albef"))
    assert without_others(coca, ["contrastive"], gathered=True) == ["`contrastive`"]
    assert without_others(coca, ["contrastive"], gathered=False) == []
    assert without_others(albef, ["itm"], gathered=False) == ["`hard`"]


def test_a_stage_without_a_weight_above_zero_is_a_mistake() -> None:
    with pytest.raises(BlueprintError, match="has no loss whose weight is more than 0"):
        Blueprint.load("tiny/coca", overrides=["losses.contrastive.weight=0", "losses.captioning.weight=0"]).check()
