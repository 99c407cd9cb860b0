"""Codes of hidden patches are foretold, those only, from what is left of the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compose_vlp import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.probes import probe
from compose_vlp.components.losses.masked_codes import MaskedCodes
from compose_vlp.errors import BlueprintError
from compose_vlp.registry import get
from compose_vlp.values import Image, Labels, Logits, Mask
from tests.compiler.sameness import assert_same, outcome


def values() -> tuple[Logits, Labels, Mask]:
    scores = torch.randn(3, 6, 5, dtype=torch.float64)
    return Logits(scores), Labels(torch.randint(5, (3, 6))), Mask(torch.rand(3, 6) < 0.5)


def test_it_is_the_mean_of_the_hidden_patches_negative_log_likelihoods() -> None:
    logits, codes, hidden = values()
    terms = [
        -logits.scores[row, place].softmax(0)[codes.ids[row, place]].log()
        for row, place in hidden.hidden.nonzero().tolist()
    ]
    result = MaskedCodes(MaskedCodes.Config())(logits, codes, hidden)
    torch.testing.assert_close(result.value, torch.stack(terms).mean())
    assert result.count == len(terms)


def test_nothing_hidden_costs_nothing() -> None:
    logits, codes, hidden = values()
    assert MaskedCodes(MaskedCodes.Config())(logits, codes, Mask(torch.zeros_like(hidden.hidden))).value == 0


def test_it_keeps_its_promises() -> None:
    logits, codes, hidden = values()
    arguments = {"logits": logits, "codes": codes, "hidden": hidden}
    assert probe(get("masked_codes"), MaskedCodes(MaskedCodes.Config()), arguments) == []


BLUEPRINT = """\
name: codes
inputs:
  image: {type: image, size: 16}
components:
  patches_of: {use: patch_embedding, width: 16, patch: 4, mask_token: true}
  backbone:   {use: multiway_transformer, depth: 1, heads: 2}
  hide:       {use: patch_masker, patch: 4}
  head:       {use: linear_head, classes: 8}
  coder:      {use: codes_of, patch: 4, classes: 8}
graph:
  hidden: hide(image)
  seen:   head(backbone(patches_of(image, hidden=hidden)).tokens)
  codes:  coder(image)
losses:
  codes: {use: masked_codes, logits: seen, codes: codes, hidden: hidden}
data:
  pictures: {use: scenes}
stages:
  main: {data: pictures, batch: 4, length: 1 steps, losses: [codes]}
"""
CODES_OF = """\
import torch
from typing import Annotated
from torch import nn
from compose_vlp.graph.types import Count, LabelsType
from compose_vlp.registry import Settings, component
from compose_vlp.values import Image, Labels


@component("codes_of", rows="independent", state="none", draws="none")
class CodesOf(nn.Module):
    class Config(Settings):
        patch: int
        classes: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, image: Annotated[Image, "rows size"]) -> Annotated[Labels, "rows length classes"]:
        patches = nn.functional.avg_pool2d(image.pixels.mean(1, keepdim=True), self.config.patch).flatten(1)
        return Labels((patches * 1000).long() % self.config.classes)

    @staticmethod
    def output(config, ports):
        side = ports["image"].size // config.patch
        count = Count(side**2, side**2, grid=(side, side))
        return LabelsType(ports["image"].rows, classes=config.classes, part="vision", counted=count)
"""


def load(folder: Path, *overrides: str) -> Blueprint:
    (folder / "codes.yaml").write_text(BLUEPRINT, encoding="utf-8")
    (folder / "codes_of.py").write_text(CODES_OF, encoding="utf-8")
    return Blueprint.load(str(folder / "codes.yaml"), overrides=list(overrides), plugins=[str(folder / "codes_of.py")])


def test_the_head_computes_hidden_patches_only_and_the_step_stays(tmp_path: Path) -> None:
    blueprint = load(tmp_path).check()
    sources, results = [], []
    for without in (["rows"], []):
        compiled = compile_stage(blueprint, "main", without=without)
        model = build(blueprint, seed=0)
        batch = {"image": Image(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double())}
        results.append(outcome(model.double(), compiled, batch, Step({})))
        sources.append(compiled.source)
    assert "select(losses.codes, hidden)" in sources[1]
    assert "select(" not in sources[0]
    assert_same(results[1], results[0], "with the pass `rows`")


@pytest.mark.parametrize(
    ("override", "grids"),
    [
        ("components.coder.patch=8", ("2 x 2", "4 x 4")),
        ("components.hide.patch=8", ("2 x 2", "4 x 4")),
    ],
)
def test_a_tokenizer_or_masker_of_another_grid_is_refused_with_both_grids(
    tmp_path: Path, override: str, grids: tuple[str, str]
) -> None:
    with pytest.raises(BlueprintError) as raised:
        load(tmp_path, override).check()
    message = raised.value.problems[0].message
    assert all(grid in message for grid in grids), message


def test_scores_that_saw_the_hidden_patches_are_refused(tmp_path: Path) -> None:
    seen = "graph.seen=head(backbone(patches_of(image)).tokens)"
    with pytest.raises(BlueprintError) as raised:
        load(tmp_path, seen, "components.patches_of.mask_token=false").check()
    assert "image" in raised.value.problems[0].message
