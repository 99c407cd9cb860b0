"""Evaluation while a stage trains: when, on what, told to whom, and that training notices nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.run import Run
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.stage_evaluation import Evaluation, Seen
from compose_vlp.runtime.training.trainer import TrainOptions

Load = Callable[..., Blueprint]
STEPS = (
    "stages.pretrain.length=6 steps",
    "stages.pretrain.batch=6",
    "data.pairs.count=20",
    "data.pairs.size=16",
    "components.multimodal.dropout=0.1",
)
VAL = "+data.val={use: scenes, split: unseen, count: 8, size: 16}"


class Watch(Silent):
    """Keeps totals and scores; stops as Ctrl-C does after a step, or at a measurement."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.totals: dict[int, float] = {}
        self.scores: list[tuple[str, int, dict[str, float]]] = []
        self.stop_after = stop_after

    def step(self, report: StepReport) -> None:
        self.totals[report.step] = report.total
        if report.step == self.stop_after:
            raise KeyboardInterrupt

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
        self.scores.append((data, step, dict(scores)))


def train(blueprint: Blueprint, out: Path, watch: Watch, **settings: Any) -> Run:
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=2)
    return blueprint.train(out=out, options=options, track=False, listener=watch, **settings)


def asked(what: str) -> str:
    return f"stages.pretrain.evaluate={what}"


def test_training_comes_out_the_same_with_and_without_evaluation(small_coca: Load, tmp_path: Path) -> None:
    plain, watched = Watch(), Watch()
    without = train(small_coca(*STEPS), tmp_path / "without", plain)
    evaluate = asked("{every: 2 steps, data: val, count: 6}")
    with_it = train(small_coca(*STEPS, VAL, evaluate), tmp_path / "with", watched)
    assert plain.totals == watched.totals
    assert [(data, step) for data, step, _ in watched.scores] == [("val", 2), ("val", 4), ("val", 6)]
    for name, tensor in without.asker.model.state_dict().items():
        assert torch.equal(tensor, with_it.asker.model.state_dict()[name]), name
    last = watched.scores[-1][2]
    assert {"retrieval.image_to_text_recall_at_1", "captioning.cider"} <= set(last)
    assert with_it.folder.info.extra["scores"] == {"val": {"step": 6, **last}}


def test_a_run_that_was_stopped_is_measured_as_if_it_had_not_been(small_coca: Load, tmp_path: Path) -> None:
    overrides = (*STEPS, VAL, asked("{every: 3 steps, data: val, tasks: [retrieval], count: 6}"))
    whole, before, after = Watch(), Watch(stop_after=4), Watch()
    train(small_coca(*overrides), tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train(small_coca(*overrides), tmp_path / "stopped", before)
    train(small_coca(*overrides), tmp_path / "stopped", after, resume=True)
    assert before.scores + after.scores == whole.scores
    assert {**before.totals, **after.totals} == whole.totals


def test_a_stop_in_the_last_measurement_loses_no_step(small_coca: Load, tmp_path: Path) -> None:
    class Impatient(Watch):
        def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
            raise KeyboardInterrupt

    blueprint = small_coca(*STEPS, asked("100 %"))
    with pytest.raises(KeyboardInterrupt):
        train(blueprint, tmp_path / "run", Impatient())
    after = Watch()
    train(blueprint, tmp_path / "run", after, resume=True)
    assert after.totals == {}
    assert [(data, step) for data, step, _ in after.scores] == [("pairs", 6)]


def test_an_interval_alone_measures_all_tasks_on_the_stage_s_own_data(small_coca: Load, tmp_path: Path) -> None:
    watch = Watch()
    train(small_coca(*STEPS, asked("1 epoch")), tmp_path / "run", watch)
    assert [(data, step) for data, step, _ in watch.scores] == [("pairs", 3), ("pairs", 6)]


@pytest.mark.parametrize(("every", "due"), [(2, [2, 4, 5]), (9, [5]), (0, [5])])
def test_it_is_due_at_its_interval_and_at_the_end(every: int, due: list[int]) -> None:
    evaluation = Evaluation("val", every, dict)
    assert [done for done in range(1, 6) if evaluation.is_due(done, 5)] == due


def test_generators_are_put_back_even_where_measuring_fails() -> None:
    def fail() -> Seen:
        torch.rand(3)
        raise ZeroDivisionError

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError):
        Evaluation("val", 1, fail).seen()
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (asked("{every: 2 steps, data: vall}"), "no data source is called `vall`"),
        (asked("{every: 2 steps, tasks: [retrival]}"), "did you mean 'retrieval'"),
        (asked("{data: val}"), "`every` is missing"),
        (asked("often"), "expected a number and a unit"),
    ],
)
def test_a_mistake_in_the_blueprint_is_found_before_anything_runs(small_coca: Load, change: str, says: str) -> None:
    with pytest.raises(BlueprintError) as refused:
        small_coca(*STEPS, VAL, change).check()
    assert any(
        says in str(problem) or any(says in hint for hint in problem.hints) for problem in refused.value.problems
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ((asked("{every: 2 steps, tasks: [captioning]}"), "~outputs.caption"), "there is no caption"),
        ((asked("1 epoch"), "~outputs.caption", "~outputs.text_embedding"), "no outputs that could be measured"),
        (("+data.lost={use: jsonl, path: lost.jsonl}", asked("{every: 1 epoch, data: lost}")), "lost.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_first_step(
    small_coca: Load, tmp_path: Path, changes: tuple[str, ...], says: str
) -> None:
    watch = Watch()
    with pytest.raises(UserError, match=says):
        train(small_coca(*STEPS, *changes), tmp_path / "run", watch)
    assert watch.totals == {}
