"""A technique is one file and one override: it reaches all five papers, trains there, and left out costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import build
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.tiny_papers import PAPERS, tiny_paper

MARKS = {
    "components.*.ffn=swiglu": "gate_value",
    "components.*.ffn={use: moe, experts: 3}": "router",
    "components.*.norm=rms_norm": "norm.weight",
    "components.*.positions=rotary": "qkv",
}
"""Overrides, and what is in the path of a parameter that each of them makes, or uses otherwise."""

SIGMOID = "losses.{}={{use: sigmoid, scores: [i2t, t2i]}}"
CONTRASTS = {"ALBEF": "itc", "BLIP": "itc", "CoCa": "contrastive", "VLMo": "itc", "BEiT-3": "contrast"}
"""What each paper calls its contrastive loss: BEiT-3 has one in its task of retrieval."""


class Watch(Silent):
    def __init__(self) -> None:
        self.steps: list[StepReport] = []

    def step(self, report: StepReport) -> None:
        self.steps.append(report)


def towers(checked: CheckedBlueprint, slot: str) -> set[str]:
    """The components with a slot that own their weights."""
    return {n for n, part in checked.components.items() if slot in type(part.config).model_fields and not part.share}


def learned(blueprint: Blueprint, out: Path) -> tuple[set[str], set[str], list[StepReport]]:
    """The parameters, those that two steps of each stage moved, and what the steps told."""
    watch = Watch()
    options = TrainOptions(seed=1, device="cpu")
    run = blueprint.train(out=out, options=options, track=False, listener=watch)
    before, after = build(blueprint.check(), seed=1).state_dict(), run.asker.model.state_dict()
    names = {name for name, _ in run.asker.model.named_parameters() if name.startswith("components.")}
    return names, {name for name in names if not torch.equal(before[name], after[name])}, watch.steps


@pytest.mark.training
@pytest.mark.parametrize("override", MARKS)
@pytest.mark.parametrize("paper", PAPERS)
def test_one_override_reaches_a_paper_and_trains(paper: str, override: str, tmp_path: Path) -> None:
    slot = override.split("=", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]
    blueprint = tiny_paper(paper, override)
    checked = blueprint.check()
    names, moved, steps = learned(blueprint, tmp_path / "run")
    assert len(steps) == 2 * len(checked.stages)
    called = {call.target for stage in checked.stages for call in compile_stage(checked, stage).plan.calls}
    expected = {name for name in towers(checked, slot) & called if _has_layers(checked, name)}
    reached = {name.split(".")[1] for name in moved if MARKS[override] in name}
    assert expected and expected <= reached, f"of {expected} only {reached} have it and learn"
    if "moe" in override:
        balances = {name for report in steps for name in report.losses if name.endswith(".ffn.balance")}
        assert {f"{name}.ffn.balance" for name in expected} <= balances
        assert all(report.losses[name] > 0 for report in steps for name in balances & report.losses.keys())
    if "rotary" in override:
        assert not [name for name in names if name.endswith((".positions", "relative_bias.table"))]
    if "norm" in override:
        assert not [name for name in names if ".norm.bias" in name and name.split(".")[1] in expected]


def _has_layers(checked: CheckedBlueprint, name: str) -> bool:
    return "ffn" in type(checked.components[name].config).model_fields


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("override", ["components.*.ffn=mlp", "components.*.norm=layer_norm"])
def test_the_default_by_name_has_the_numbers_of_the_default(paper: str, override: str) -> None:
    plain, named = tiny_paper(paper).check(), tiny_paper(paper, override).check()
    mine, other = (build(checked, seed=3).state_dict() for checked in (plain, named))
    assert mine.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in mine.items())
    for stage in plain.stages:
        assert compile_stage(plain, stage).source == compile_stage(named, stage).source
    assert not plain.auxiliary and not named.auxiliary


@pytest.mark.training
@pytest.mark.parametrize("paper", CONTRASTS)
def test_the_sigmoid_loss_takes_the_place_of_a_papers_contrast_and_learns_its_bias(paper: str, tmp_path: Path) -> None:
    name = CONTRASTS[paper]
    override = SIGMOID.format(name)
    rate = ["params.lr=1e-3"] if paper == "VLMo" else []  # after two steps of its warm-up float32 shows no change
    blueprint = tiny_paper(paper, override, *rate) if paper != "BEiT-3" else tiny_retrieval(override)
    watch = Watch()
    run = blueprint.train(out=tmp_path / "run", options=TrainOptions(seed=1, device="cpu"), track=False, listener=watch)
    bias = run.asker.model.state_dict()[f"losses.{name}.bias"]
    assert bias.item() != -10, "it is trained"
    assert all(report.losses[name] > 0 for report in watch.steps if name in report.losses)
    assert any(name in report.losses for report in watch.steps)


def tiny_retrieval(*overrides: str) -> Blueprint:
    """BEiT-3's task of retrieval at a few thousand weights."""
    small = [
        override for override in PAPERS["BEiT-3"][1] if not override.startswith(("~", "stages.", "components.hide"))
    ]
    data = ["data.captions={use: scenes, size: 16, count: 24}"]
    stage = ["stages.finetune.batch=4", "stages.finetune.length=2 steps"]
    projections = ["components.image_proj.out=8", "components.text_proj.out=8"]
    return Blueprint.load(
        "beit3_base", "tasks/beit3/retrieval", overrides=[*small, *data, *stage, *projections, *overrides]
    )
