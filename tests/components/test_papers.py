"""The papers that the language was made for, read with the real kinds: the plans are those written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp import registry
from compose_vlp.blueprint.arguments import split_arguments
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.compiler.model import build
from compose_vlp.graph.checking.check import check
from compose_vlp.graph.graph import CheckedBlueprint
from tests.graph.support import PAPERS, written

PLANS = Path(__file__).resolve().parent.parent / "graph" / "plans"
TASKS = ("entailment", "nlvr2_one_pass", "nlvr2_two_passes", "retrieval", "vqa_classify", "vqa_generate", "zero_shot")


def checked(*arguments: str) -> CheckedBlueprint:
    names, overrides = split_arguments(arguments)
    actual = resolve(names, overrides, library=PAPERS, fields_of=registry.fields_of)
    return check(actual.document, registry, actual.problems)


@pytest.mark.parametrize("paper", ["albef", "blip", "coca"])
def test_real_kinds_give_the_plan_written_by_hand(paper: str) -> None:
    assert written(checked(paper).training) == (PLANS / f"{paper}.txt").read_text().splitlines()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("paper", ["albef", "blip"])
def test_tasks_fit_the_real_kinds(paper: str, task: str) -> None:
    blueprint = checked(paper, f"tasks/{task}")
    build(blueprint, device="meta")


@pytest.mark.parametrize(
    "hybrid", ["albef_two_teachers", "blip_pooler", "coca_matching", "coca_momentum", "albef_two_towers"]
)
def test_hybrids_fit_the_real_kinds(hybrid: str) -> None:
    real = {"swin": "timm, model: swin_tiny_patch4_window7_224", "adapter": "projection, out: 768"}
    overrides = (
        [f"components.{name}={{use: {real[kind]}}}" for name, kind in (("second", "swin"), ("blend", "adapter"))]
        if hybrid == "albef_two_towers"
        else []
    )
    assert checked(f"hybrids/{hybrid}", *overrides).training


def test_two_pictures_double_albefs_fuser_and_merge_in_blips_tower() -> None:
    albef, blip = (checked(paper, "tasks/nlvr2_one_pass") for paper in ("albef", "blip"))
    assert albef.components["fusion"].config.contexts == blip.components["text"].config.contexts == 2
    fusion = build(albef, device="meta").student.fusion
    text = build(blip, device="meta").student.text
    assert len(fusion.layers) == 12
    assert [layer.cross_attention.branch.merge is not None for layer in text.layers] == [False] * 6 + [True] * 6


def test_albef_and_blip_have_the_papers_parameters() -> None:
    albef = build(checked("albef", "components.text.length=512"), device="meta").component_parameters()
    assert albef["vision"] / 1e6 == pytest.approx(85.8, abs=0.1)
    text_and_fusion = albef["text"] + albef["fusion"] + albef["mlm_head"]
    assert text_and_fusion / 1e6 == pytest.approx(123.7, abs=1)
    blip = build(checked("blip", "components.text.length=512"), device="meta").component_parameters()
    everything = sum(blip[name] for name in ("vision", "text", "decoder", "lm_head", "image_proj", "text_proj"))
    assert everything / 1e6 == pytest.approx(252, abs=1)
