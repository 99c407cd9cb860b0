"""What names and shapes of parameters tell is told by `check`, at its place, before a weight is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp import Blueprint
from compose_vlp.errors import BlueprintError, Problem

FROZEN = "{data: pairs, length: 1 epoch, losses: [contrastive], "


def problems(*overrides: str, name: str = "tiny/coca") -> list[Problem]:
    try:
        Blueprint.load(name, overrides=overrides).check()
    except BlueprintError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("override", "pattern", "hint"),
    [
        ("freeze=vision.layerz", "vision.layerz", "did you mean 'layers'?"),
        ("freeze=[vision, vision.layers.9]", "vision.layers.9", "`vision.layers` has 0"),
        ("train=[vision, vision.stm.**]", "vision.stm.**", "did you mean 'stem'?"),
        ("freeze=**.weihgt", "**.weihgt", "did you mean 'weight'?"),
        (f"+stages.a={FROZEN}freeze: vision.layerz}}", "vision.layerz", "did you mean 'layers'?"),
        ("optimizer.rules=[{match: '**.bia', weight_decay: 0}]", "'**.bia'", "did you mean 'bias'?"),
        (f"+stages.a={FROZEN}optimizer: {{lr: 1, rules: [{{match: [vision.nrm], lr: 2}}]}}}}", "vision.nrm",
         "did you mean 'norm'?"),
        ("start=[{new: [vision.stm.**]}]", "vision.stm.**", "did you mean 'stem'?"),
        ("start=[{from: x.safetensors, to: vision.stm}]", "vision.stm", "did you mean 'stem'?"),
    ],
)  # fmt: skip
def test_a_pattern_that_names_no_parameter(override: str, pattern: str, hint: str) -> None:
    (problem,) = problems(override)
    assert problem.span is not None
    assert override[problem.span.column - 1 : problem.span.end_column - 1] == pattern
    assert hint in problem.hints


def test_patterns_that_name_something_pass() -> None:
    assert not problems(
        "freeze=[vision.layers.0, '**.bias']", "optimizer.rules=[{match: ['**.bia', '**.bias'], lr: 1}]"
    )
    assert not problems("start=[{from: x.safetensors, to: momentum.vision}, {new: ['**']}]", name="tiny/albef")


@pytest.mark.parametrize(
    ("override", "place", "message"),
    [
        ("components.lm_head.share={weight: unimodal.positions}", "unimodal.positions",
         "lm_head.weight [512, 128] cannot be shared from unimodal.positions [29, 128]"),
        ("components.pool_one.share={'*': pool_many}", "pool_many",
         "pool_one.queries [1, 128] cannot be shared from pool_many.queries [16, 128]"),
    ],
)  # fmt: skip
def test_a_part_of_another_shape(override: str, place: str, message: str) -> None:
    (problem,) = problems(override)
    assert problem.span is not None
    assert override[problem.span.column - 1 : problem.span.end_column - 1] == place
    assert problem.message == message


def test_all_parts_of_other_shapes_are_told_at_once() -> None:
    actual = problems(
        "components.lm_head.share={weight: unimodal.positions}", "components.pool_one.share={'*': pool_many}"
    )
    assert len(actual) == 2


def test_a_plugin_that_the_meta_device_cannot_make_is_left_to_who_makes_it(tmp_path: Path) -> None:
    plugin = tmp_path / "stubborn.py"
    plugin.write_text(
        "from typing import Annotated\n"
        "import torch\n"
        "from torch import nn\n"
        "from compose_vlp.registry import EACH, Settings, component\n"
        "from compose_vlp.values import Embedding\n"
        "@component('stubborn')\n"
        "class Stubborn(nn.Module):\n"
        "    class Config(Settings):\n"
        "        pass\n"
        "    def __init__(self, config: Config) -> None:\n"
        "        super().__init__()\n"
        "        self.scale = nn.Parameter(torch.ones(1))\n"
        "        self.start = self.scale.item()\n"
        "    def forward(self, x: Annotated[Embedding, 'rows width', EACH]) -> Annotated[Embedding, 'rows width']:\n"
        "        return x\n"
    )
    graph = Blueprint.load("tiny/coca").check().document.graph
    name = next(entry.name for entry in graph if "text_proj" in str(entry.value))
    overrides = ["+components.odd={use: stubborn}", f"graph.{name}=odd(previous)"]
    assert "odd" in Blueprint.load("tiny/coca", overrides=overrides, plugins=[plugin]).check().components
