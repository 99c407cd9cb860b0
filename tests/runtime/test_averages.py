"""A teacher that only an output reads is an average of the model's weights, and follows it in every stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.run import Run
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.runtime.test_training import STEPS, Watch
from tests.support import assert_near

Load = Callable[..., Blueprint]
DECAY = 0.75
WEIGHT = "vision.norm.weight"
ONE = "one: {data: pairs, batch: 6, length: 2 steps, losses: [captioning]}"
TWO = "two: {data: pairs, batch: 6, length: 2 steps, losses: [contrastive]}"


def blueprint(load: Load, length: int, update: str = "after", *overrides: str) -> Blueprint:
    average = f"+teachers.slow={{decay: {DECAY}, update: {update}}}"
    steps = (f"stages.pretrain.length={length} steps", *STEPS[1:])
    own = ("+outputs.averaged=slow.image_embedding", "optimizer.lr=1e-2")
    return load(*(overrides or steps), average, *own)


def train(paper: Blueprint, out: Path, *, resume: bool = False, watch: Watch | None = None) -> Run:
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=2)
    return paper.train(out=out, options=options, track=False, listener=watch or Watch(), resume=resume)


def weights(run: Run) -> tuple[Tensor, Tensor]:
    """The model's, and its teacher's."""
    state = run.asker.model.state_dict()
    return state[f"components.{WEIGHT}"], state[f"teachers.slow.{WEIGHT}"]


@pytest.mark.parametrize("update", ["before", "after"])
def test_an_average_for_evaluation_follows_step_by_step(small_coca: Load, tmp_path: Path, update: str) -> None:
    runs = [train(blueprint(small_coca, n, update), tmp_path / str(n)) for n in (1, 2, 3)]
    students = [build(runs[0].blueprint, seed=1).state_dict()[f"components.{WEIGHT}"]] + [weights(r)[0] for r in runs]
    expected = students[0].double()
    for student in students[:-1] if update == "before" else students[1:]:
        expected = DECAY * expected + (1 - DECAY) * student.double()
    assert_near(weights(runs[-1])[1].double(), expected, within=1e-6)
    assert (weights(runs[-1])[0] - weights(runs[-1])[1]).norm() > 1e-3, "the model has gone further"


def test_it_is_resumed_bit_for_bit(small_coca: Load, tmp_path: Path) -> None:
    whole = train(blueprint(small_coca, 4), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(blueprint(small_coca, 4), tmp_path / "cut", watch=Watch(stop_after=2))
    again = Watch()
    resumed = train(blueprint(small_coca, 4), tmp_path / "cut", resume=True, watch=again)
    assert not any("starts as a copy" in note for note in again.notes)
    assert torch.equal(weights(whole)[1], weights(resumed)[1])


def test_it_follows_through_all_stages_and_starts_once(small_coca: Load, tmp_path: Path) -> None:
    watch = Watch()
    stages = [(f"stages={{{text}}}", *STEPS[2:]) for text in (ONE, f"{ONE}, {TWO}")]
    first = train(blueprint(small_coca, 0, "after", *stages[0]), tmp_path / "first")
    run = train(blueprint(small_coca, 0, "after", *stages[1]), tmp_path / "run", watch=watch)
    assert [note for note in watch.notes if "slow" in note] == ["teacher slow starts as a copy"]
    assert not torch.equal(weights(first)[1], weights(run)[1]), "the second stage moves it too"
