"""Adapters: one override reaches linear maps of every paper; base weights, sharing and passes stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compose_vlp.api import Blueprint
from compose_vlp.compiler.adapting import adapted_maps
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.compiler.sameness import CHOICES, NONE, assert_same, outcome
from tests.support import assert_near
from tests.tiny_papers import PAPERS, tiny_paper

Load = Callable[..., Blueprint]
ALL = '+adapters.lora={use: lora, match: "**", rank: 2, alpha: 4}'
ONLY = 'stages.*.train=["**.lora"]'
OPTIONS = TrainOptions(seed=1, device="cpu")


def only_stage(checked: CheckedBlueprint) -> str:
    """The last stage, which has most losses."""
    return list(checked.stages)[-1]


def made(checked: CheckedBlueprint, stage: str, *, moved: bool = False, dtype: torch.dtype | None = None) -> Model:
    """A model with fresh weights; with `moved`, both factors of LoRA are drawn, so that each adapter does something."""
    model = build(checked.of_stage(stage), seed=3).to(dtype)
    model.tokenizers = synthetic_tokenizers(checked)
    model.start_teachers(list(checked.teachers))
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if moved and name.endswith(".up"):
            nn.init.normal_(parameter, std=0.3)
    return model


def batch_of(compiled: Compiled, dtype: torch.dtype = torch.float32) -> dict[str, object]:
    torch.manual_seed(4)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return dict(synthetic_batch(compiled.plan, 4, "cpu"))
    finally:
        torch.set_default_dtype(before)


class SameChoices(Step):
    """A step in which a masker or miner chooses alike at equal calls, in whatever order a program makes them."""

    def choice(self, call: str, component: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(sum(map(ord, call)))
            return component(*args, **kwargs)


def losses(checked: CheckedBlueprint) -> dict[str, Tensor]:
    stage = only_stage(checked)
    compiled, model = compile_stage(checked, stage), made(checked, stage)
    torch.manual_seed(7)
    actual = model.train()(compiled.run, batch_of(compiled), Step(checked.constants_and_starts()))
    return {name: loss.value for name, loss in actual.items()}


@pytest.mark.training
@pytest.mark.parametrize("paper", PAPERS)
def test_one_override_adapts_every_linear_map_of_every_paper_and_adapters_alone_are_trained(
    paper: str, tmp_path: Path
) -> None:
    blueprint = tiny_paper(paper, ALL, ONLY)
    checked = blueprint.check()
    run = blueprint.train(out=tmp_path / "run", options=OPTIONS, track=False, listener=Silent())
    fresh, model = build(checked, seed=1), run.asker.model
    maps = {path for path, module in model.named_modules(remove_duplicate=False) if isinstance(module, nn.Linear)}
    assert maps == adapted_maps(model).keys() and len(maps) >= 8
    before, after = fresh.state_dict(), model.state_dict()
    moved = {name for name, _ in model.named_parameters() if not torch.equal(after[name], before[name])}
    own = {name for name in moved if not name.startswith("teachers.")}
    assert all(".lora." in name for name in moved), "a teacher's base weights stay too"
    programs = [compile_stage(checked, stage).plan.calls for stage in checked.stages]
    called = {call.target for calls in programs for call in calls if call.role == "component" and call.world is None}
    with_maps = {path.split(".")[1] for path in adapted_maps(model) if path.startswith("components.")}
    assert {name.split(".")[1] for name in own} == called & with_maps


@pytest.mark.parametrize("paper", PAPERS)
def test_before_the_first_step_and_without_adapters_the_numbers_are_the_old_ones(paper: str) -> None:
    plain, adapted = tiny_paper(paper).check(), tiny_paper(paper, ALL).check()
    state, other = build(plain, seed=3).state_dict(), build(adapted, seed=3).state_dict()
    assert {name for name in other if ".lora." not in name} == state.keys(), "weights keep their names"
    assert all(torch.equal(tensor, other[name]) for name, tensor in state.items())
    adapted_losses, plain_losses = losses(adapted), losses(plain)
    assert adapted_losses.keys() == plain_losses.keys()
    for name in adapted_losses:
        assert_near(adapted_losses[name], plain_losses[name])


@pytest.mark.parametrize("paper", PAPERS)
def test_no_pass_changes_a_number_of_an_adapted_model(paper: str) -> None:
    quiet = (
        [f"components.{name}" for name in ("*.dropout=0", "*.attention_dropout=0")]
        if paper in ("ALBEF", "BLIP")
        else []
    )
    quiet += ["components.words_of.dropout=0", "components.*.drop_path=0"] if paper == "VLMo" else []
    quiet += ["components.backbone.drop_path=0"] if paper == "BEiT-3" else []
    checked = tiny_paper(paper, ALL, *quiet).check()
    stage = only_stage(checked)
    model = made(checked, stage, moved=True, dtype=torch.float64)
    step = SameChoices(checked.constants_and_starts())
    plain = compile_stage(checked, stage, without=NONE)
    expected = outcome(model, plain, batch_of(plain, torch.float64), step)
    assert any(".lora." in name and g.abs().sum() > 0 for name, g in expected.gradients.items())
    for without in CHOICES:
        compiled = compile_stage(checked, stage, without=without)
        actual = outcome(model, compiled, batch_of(compiled, torch.float64), step)
        assert_same(actual, expected, f"{paper} without {without or 'nothing'}")
