"""BEiT-3's three sizes have the published numbers of parameters, and the giant is cut as its paper says."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.compiler.figures import figures
from compose_vlp.compiler.model import build
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.training import parameter_counts


@cache
def checked(name: str) -> CheckedBlueprint:
    return Blueprint.load(name).check()


@pytest.mark.parametrize("name", ["beit3_base", "beit3_large", "beit3"])
def test_every_published_figure_agrees(name: str) -> None:
    blueprint = checked(name)
    actual = figures(
        blueprint.document, build(blueprint, "meta").component_parameters(), lambda: parameter_counts(blueprint)
    )
    assert [figure.label for figure in actual if not figure.agrees] == []
    counts = {figure.label: figure.built for figure in actual}
    if name == "beit3":  # table 2, each within 1 %
        table = {"vision experts": 692, "language experts": 692, "vision-language experts": 52, "attention": 317}
        assert {label: counts[label] / 1e6 for label in table} == {
            label: pytest.approx(count, rel=0.01) for label, count in table.items()
        }


def test_the_giants_pairs_go_to_their_own_expert_in_the_top_three_layers() -> None:
    blueprint = checked("beit3")
    lower, upper = (blueprint.components[name].config for name in ("backbone", "top"))
    assert (lower.depth, upper.depth) == (37, 3)
    assert (lower.layers_after, upper.layers_before) == (3, 37), "drop-path and initial weights count all forty"
    calls = [call for call in blueprint.plan.calls if call.target == "top"]
    experts: list[Any] = [getattr(call.arg("expert"), "value", None) for call in calls]
    assert "vision_language" in experts and None in experts


def test_the_giants_codes_are_of_the_same_places() -> None:
    blueprint = checked("beit3")
    for shown, coded in (("image", "code_image"), ("lone_image", "code_lone_image")):
        picture, other = blueprint.inputs[shown], blueprint.inputs[coded]
        assert (picture.size // 14, picture.view, picture.source, picture.augment) == (
            other.size // 16, other.view, other.source, other.augment
        )  # fmt: skip


@pytest.mark.parametrize(
    "task",
    ["vqa_scores", "nlvr2_two_passes", "image_classification", "masked_captioning", "beit3/giant/retrieval"],
)
def test_every_pass_of_a_task_goes_through_both_stacks_of_the_giant(task: str) -> None:
    blueprint = Blueprint.load("beit3", f"tasks/{task}").check()
    (loss,) = blueprint.losses.values()
    calls = [call for call in blueprint.fragment([Ref(loss.call)]) if call.target in ("backbone", "top")]
    assert calls and [call.target for call in calls] == ["backbone", "top"] * (len(calls) // 2)
    seen = {getattr(call.arg("attention"), "value", "all") for call in calls}
    assert seen == {"prefix" if task == "masked_captioning" else "all"}
