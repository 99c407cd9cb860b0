"""Losses that components have of their own: of all positions of a step, however its program was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from compose_vlp.api import Blueprint
from compose_vlp.auxiliary import auxiliary, with_terms
from compose_vlp.blame import blamed
from compose_vlp.compiler.accumulation import compile_pieces
from compose_vlp.compiler.compile import compile_outputs, compile_stage
from compose_vlp.compiler.materialise import materialise
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.picture import diagram_of
from compose_vlp.runtime.device import autocast
from compose_vlp.runtime.processes import ALONE
from compose_vlp.runtime.stage import Scale, Values, loss_weights
from compose_vlp.runtime.training.engine import Engine
from compose_vlp.runtime.training.gradients import InOneGo, InPieces
from compose_vlp.values import Text
from tests.compiler.sameness import CHOICES, NONE, assert_same, outcome
from tests.compiler.test_batch import checked as tiny
from tests.compiler.test_batch import model_of, program, ragged
from tests.support import assert_near, average_gradients, spawn

Load = Callable[..., Blueprint]
MOE = "components.*.ffn={use: moe, experts: 3, router_z: 0.001}"
FLOAT32 = autocast(torch.device("cpu"), "fp32")

DRIFT = """
from typing import Annotated
from pydantic import Field
from torch import nn
from compose_vlp.auxiliary import Auxiliary
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Sequence


@component("drift", rows="independent", state="none", draws="none", auxiliary=("change",))
class Drift(Auxiliary):
    class Config(Settings):
        change: float = Field(0.5, ge=0)
        width: int = inferred()

    def __init__(self, config):
        super().__init__()
        self.map = nn.Linear(config.width, config.width)

    def forward(self, x: Annotated[Sequence, "rows tokens width", EACH]) -> Annotated[Sequence, "rows tokens width"]:
        change = self.map(x.features)
        self.add(change=change.square().mean(-1))
        return x.with_features(x.features + change)
"""


def moved(model: Model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("paper", ["tiny/albef", "tiny/blip"])
def test_no_pass_changes_what_they_come_to(paper: str) -> None:
    blueprint = tiny(paper, MOE)
    model = model_of(blueprint)
    plain = program(blueprint, *NONE)
    batch, step = ragged(plain)
    expected = outcome(model, plain, batch, step)
    assert {f"{name}.ffn.{loss}" for name in ("vision",) for loss in ("balance", "router_z")} <= expected.values.keys()
    for without in CHOICES:
        actual = outcome(model, program(blueprint, *without), batch, step)
        assert_same(actual, expected, f"without {without}")


def test_several_calls_of_a_component_are_one_set_of_positions(small_coca: Load) -> None:
    """ALBEF's text tower reads the caption and its masked twin."""
    blueprint = tiny("tiny/albef", MOE)
    model = model_of(blueprint)
    compiled = program(blueprint)
    batch, step = ragged(compiled)
    calls = []
    model.student.text.register_forward_hook(lambda *call: calls.append(call[1][0]))
    actual = model(compiled.run, batch, step)["text.ffn.balance"].value
    (rows,) = calls
    assert len(rows.ids) == 8, "the two calls are one"
    _, terms = with_terms(model.student.text, rows)
    assert_near(actual, auxiliary(model.student.text, "moe", "balance", [terms]).value)


def weights_of(checked: CheckedBlueprint, names: Mapping[str, Any]) -> dict[str, float]:
    return loss_weights(checked, names, Values(checked.params, Scale(8, 8, 1)))(0)


@pytest.mark.parametrize("count", [2, 3])
def test_pieces_of_a_batch_give_the_whole(small_coca: Load, count: int) -> None:
    checked = small_coca(MOE).check()
    compiled = compile_stage(checked, "pretrain")
    model = build(checked, seed=3).train().double()
    batch = pytree.tree_map_only(
        torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, synthetic_batch(compiled.plan, 6, "cpu")
    )
    caption = batch["caption"]
    batch["caption"] = Text(caption.ids, torch.tensor([12, 3, 7, 9, 4, 5]).clamp(max=caption.ids.shape[1]), 12)
    weights = weights_of(checked, compiled.plan.results)
    assert weights["vision.ffn.balance"] == 0.01 and weights["vision.ffn.router_z"] == 0.001
    ways = (
        InOneGo(Engine(model), compiled.run, ALONE, FLOAT32),
        InPieces(Engine(model), compile_pieces(checked, "pretrain"), count, ALONE, FLOAT32),
    )
    actual = []
    for way in ways:
        model.zero_grad()
        actual.append((way(batch, weights, Step()), moved(model)))
    (whole, expected), (cut, gradients) = actual
    assert cut.values == pytest.approx(dict(whole.values), rel=1e-6)
    assert cut.total == pytest.approx(whole.total, rel=1e-6)
    for name, gradient in expected.items():
        assert_near(gradients[name], gradient, 1e-6, floor=1e-9, what=name)


def in_a_process(rank: int) -> tuple[dict[str, float], dict[str, list[Any]]]:
    losses, gradients = a_step(rank, 2)
    return losses, {name: gradient.tolist() for name, gradient in gradients.items()}


def a_step(rank: int, world: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses and mean gradients of two calls of a tower over six rows, of which a process has its share."""
    checked = tiny("tiny/albef", MOE)
    model = build(checked, seed=3).double()
    text = model.student.text
    ids = torch.arange(48).reshape(6, 8) % 50 + 1
    lengths = torch.tensor([8, 3, 7, 5, 4, 2])
    mine = slice(rank * 6 // world, (rank + 1) * 6 // world)
    calls = [with_terms(text.eval(), Text(ids[mine] + shift, lengths[mine], 8))[1] for shift in (0, 3)]
    losses = {name: auxiliary(text, "moe", name, calls).value for name in ("balance", "router_z")}
    sum(losses.values()).backward()
    average_gradients(text.parameters(), world)
    return {name: loss.item() for name, loss in losses.items()}, moved(model)


def test_two_processes_give_what_one_gives_of_all_rows() -> None:
    losses, gradients = a_step(0, 1)
    for actual, learned in spawn(in_a_process):
        assert actual == pytest.approx(losses, rel=1e-9)
        for name, gradient in gradients.items():
            assert_near(torch.tensor(learned[name], dtype=torch.float64), gradient, floor=1e-12)


def test_teachers_and_what_is_asked_of_a_model_have_none(small_coca: Load) -> None:
    blueprint = tiny("tiny/albef", MOE)
    lines = program(blueprint).source.splitlines()
    teachers = [line for line in lines if "m_momentum.vision" in line or "m_momentum.text(" in line]
    assert teachers and not any("with_terms" in line for line in teachers)
    assert sum("with_terms(m.vision" in line for line in lines) == 1
    checked = small_coca(MOE).check()
    assert "with_terms" not in compile_outputs(checked, ["image_embedding"]).source
    assert not build(checked).student.vision.layers[0].ffn.branch.is_read


def test_a_stage_has_those_of_what_it_trains_and_calls(small_coca: Load) -> None:
    checked = small_coca(MOE, "stages.pretrain.losses=[captioning]").check()
    names = {
        f"{tower}.ffn.{loss}" for tower in ("vision", "unimodal", "multimodal") for loss in ("balance", "router_z")
    }
    assert compile_stage(checked, "pretrain").plan.results.keys() == {"captioning", *names}
    frozen = compile_stage(checked, "pretrain", trainable=lambda component: component != "vision")
    assert not [name for name in frozen.plan.results if name.startswith("vision")]
    unweighted = small_coca("components.vision.ffn={use: moe, balance: 0}").check()
    plain = small_coca("components.vision.ffn={use: moe, balance: 0, experts: 2}").check()
    assert compile_stage(unweighted, "pretrain").source == compile_stage(plain, "pretrain").source
    assert "auxiliary" not in compile_stage(unweighted, "pretrain").source, "a weight of 0 leaves it out"


def drifting(file: Path, text: str, weight: float = 0.5) -> CheckedBlueprint:
    file.write_text(text)
    more = [f"+components.drift={{use: drift, change: {weight}}}", "words=drift(previous)"]
    return Blueprint.load("tiny/coca", overrides=more, plugins=[file]).check()


def test_a_plugins_component_gives_a_mean_of_its_positions(tmp_path: Path) -> None:
    checked = drifting(tmp_path / "drift.py", DRIFT, 2)
    compiled = compile_stage(checked, "pretrain")
    assert weights_of(checked, compiled.plan.results)["drift.change"] == 2
    model = build(checked, seed=1).double().train()
    seen = []
    model.student.drift.register_forward_hook(lambda module, given, result: seen.append((module, given[0])))
    batch = synthetic_batch(compiled.plan, 3, "cpu")
    batch["image"] = type(batch["image"])(batch["image"].pixels.double())
    batch["caption"] = Text(batch["caption"].ids, torch.tensor([3, 5, 7]), batch["caption"].frame)
    actual = model(compiled.run, batch, Step())["drift.change"].value
    ((module, x),) = seen
    change = module.map(x.features).square().mean(-1)
    assert_near(actual, change[x.valid].mean())


def test_a_picture_and_a_real_step_have_them(small_coca: Load) -> None:
    checked = small_coca(MOE).check()
    boxes = {box.title: box for box in diagram_of(checked).boxes if box.family == "loss"}
    assert boxes["vision.ffn.balance"].notes == ("moe × 0.01",)
    arrows = {arrow.source for arrow in diagram_of(checked).arrows if arrow.target == boxes["vision.ffn.balance"].id}
    assert arrows == {"visual.vision"}
    assert not [box for box in diagram_of(small_coca().check()).boxes if "balance" in box.title]
    real = materialise(checked, "pretrain", torch.device("cpu"))
    assert real.losses["vision.ffn.balance"] >= 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('("change",)', '("chance",)', "`auxiliary` names 'chance', and its Config has no number of this name"),
        ('("change",)', "()", r"extends `Auxiliary`, and `auxiliary=\(...\)` names none of its losses"),
        ("Drift(Auxiliary)", "Drift(nn.Module)", "the class of what has auxiliary losses extends `Auxiliary`"),
        ('draws="none"', 'draws="choice"', 'what promises draws="choice" has no auxiliary losses'),
        ("change: float", "change: bool", "its Config has no number of this name"),
    ],
)
def test_mistakes_of_a_declaration_are_pointed_at(
    tmp_path: Path, small_coca: Load, before: str, after: str, message: str
) -> None:
    file = tmp_path / "drift.py"
    file.write_text(DRIFT.replace(before, after))
    with pytest.raises(UserError, match=message) as caught:
        small_coca(plugins=[file])
    (problem,) = caught.value.problems
    assert problem.span is not None and problem.span.file == str(file)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("add(change=", "add(drift=", "declares the loss 'change', and its losses are drift"),
        ("self.add(change=change.square().mean(-1))", "", "declares the loss 'change', and never calls `add`"),
        (".mean(-1))", ".mean((1, 2)))", r"the term 'change' is \[3\]: \[batch, n\] or \[batch, n, any\] is expected"),
        (".mean(-1))", ".mean(-1)[:, 1:])", r"adds 'change' at \[3, \d+\] positions, and the result has \[3, \d+\]"),
    ],
)
def test_mistakes_of_a_call_say_what_was_expected(tmp_path: Path, before: str, after: str, message: str) -> None:
    checked = drifting(tmp_path / "drift.py", DRIFT.replace(before, after))
    compiled = compile_stage(checked, "pretrain")
    model = build(checked).train()
    model.tokenizers = synthetic_tokenizers(checked)
    with pytest.raises(UserError, match=message) as caught, blamed("training"):
        model(compiled.run, synthetic_batch(compiled.plan, 3, "cpu"), Step())
    (problem,) = caught.value.problems
    assert problem.span is not None and problem.span.file == str(tmp_path / "drift.py")
