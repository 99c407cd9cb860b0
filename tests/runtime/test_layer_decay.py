"""Rates that fall with depth: every parameter's factor against the rule written out, and mistakes with their place."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from compose_vlp import Blueprint
from compose_vlp.blueprint.sections import LayerDecay
from compose_vlp.compiler.model import build
from compose_vlp.compiler.report_text import report_text
from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.runtime.layer_decay import layer_factors, layer_levels
from compose_vlp.runtime.optimizer import AdamW, Rule, choose_trained, make_optimizer, parameter_paths
from tests.runtime.test_training import STEPS, Watch, train

Load = Callable[..., Blueprint]
RATE = 0.5


def factors(name: str, *order: str | tuple[str, ...], overrides: tuple[str, ...] = ()) -> dict[str, float]:
    """Of every parameter of a blueprint, by its path."""
    parts = build(Blueprint.load(*name.split(), overrides=overrides).check(), "meta").parts()
    decay = LayerDecay(rate=RATE, order=tuple((item,) if isinstance(item, str) else item for item in order))
    actual = layer_factors(decay, parts)
    return {path: actual.get(id(parameter), 1.0) for path, parameter in parameter_paths(parts).items()}


def level_of(path: str, levels: dict[str, tuple[int, int]]) -> int | None:
    """`levels`: of each tower the level of its first layer, and how many layers it has; None keeps its rate."""
    head, *rest = path.split(".")
    if head not in levels:
        return None
    first, depth = levels[head]
    if not depth:
        return first
    if rest[0] == "layers":
        return first + int(rest[1])
    return None if rest[0] == "norm" else first - 1


@pytest.mark.parametrize(
    ("name", "order", "levels", "whole"),
    [
        ("beit3_base", [("patches_of", "words_of"), "backbone"],
         {"patches_of": (0, 0), "words_of": (0, 0), "backbone": (1, 12)}, 13),
        ("vlmo_base", [("patches_of", "words_of"), "lower", "upper"],
         {"patches_of": (0, 0), "words_of": (0, 0), "lower": (1, 10), "upper": (11, 2)}, 13),
        ("vlmo_base tasks/contrastive_retrieval", ["patches_of", "upper"], {"patches_of": (0, 0), "upper": (1, 2)}, 3),
        ("tiny/coca", ["vision", "unimodal", "multimodal"],
         {"vision": (0, 1), "unimodal": (1, 2), "multimodal": (3, 2)}, 5),
        ("tiny/albef", [("vision", "text"), "fusion"], {"vision": (1, 1), "text": (0, 2), "fusion": (2, 2)}, 4),
        ("blip", ["vision", ("text", "itm_head")], {"vision": (0, 12), "text": (12, 12), "itm_head": (23, 0)}, 24),
    ],
)  # fmt: skip
def test_the_factor_of_every_parameter_is_the_rule_written_out(
    name: str, order: list[str | tuple[str, ...]], levels: dict[str, tuple[int, int]], whole: int
) -> None:
    actual = factors(name, *order)
    for path, factor in actual.items():
        level = level_of(path, levels)
        assert factor == (1.0 if level is None else RATE ** (whole - level)), path
    assert {RATE, 1.0} <= set(actual.values())


def test_timm_counts_its_own_layers_and_the_final_norm_keeps_its_rate() -> None:
    swap = ("components.vision={use: timm, model: vit_tiny_patch16_224}", "inputs.image.size=224")
    actual = factors("tiny/coca", "vision", overrides=swap)
    for path, factor in actual.items():
        rest = path.removeprefix("vision.model.").split(".")
        inside = path.startswith("vision.")
        level = None if not inside or rest[0] == "norm" else int(rest[1]) if rest[0] == "blocks" else -1
        assert factor == (1.0 if level is None else RATE ** (12 - level)), path


def test_of_other_libraries_towers_the_longest_list_of_layers_counts() -> None:
    tower = nn.ModuleDict(
        {
            "embeddings": nn.Embedding(4, 2),
            "encoder": nn.ModuleDict({"layer": nn.ModuleList(nn.Linear(2, 2) for _ in range(3))}),
            "pooler": nn.Linear(2, 2),
        }
    )
    actual = layer_factors(LayerDecay(rate=RATE, order=(("text",),)), {"text": tower})
    by_path = {path: actual.get(id(parameter), 1.0) for path, parameter in tower.named_parameters()}
    assert by_path["embeddings.weight"] == RATE**4
    assert [by_path[f"encoder.layer.{i}.weight"] for i in range(3)] == [RATE**3, RATE**2, RATE]
    assert by_path["pooler.bias"] == 1.0


def test_a_shared_parameter_has_the_lowest_of_its_levels() -> None:
    below, above = nn.Linear(2, 2), nn.Linear(2, 2)
    above.weight = below.weight
    modules = {"above": above, "below": below}
    actual = layer_factors(LayerDecay(rate=RATE, order=(("below",), ("above",))), modules)
    assert actual[id(below.weight)] == RATE**2 and actual[id(above.bias)] == RATE
    lowest = layer_levels(LayerDecay(rate=RATE, order=(("below",), ("above",))), modules)[0]
    assert lowest.names == ("below",) and lowest.parameters == 6, "counted once, where its level is"


def test_rates_are_multiplied_in_groups_with_rules_and_what_is_frozen_has_none() -> None:
    modules = {"stem": nn.Linear(2, 2), "tower": nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})}
    paths = parameter_paths(modules)
    choose_trained(paths, (), ("tower.layers.0.bias",))
    decay = layer_factors(LayerDecay(rate=RATE, order=(("stem",), ("tower",))), modules)
    how = AdamW(
        lambda step: 0.1 * (step + 1),
        weight_decay=0.05,
        rules=(Rule(("**.bias",), weight_decay=0.0), Rule(("stem",), lr_scale=8.0)),
        factors=decay,
    )
    optimizer = make_optimizer(paths, how)
    assert optimizer.set_rates(1) == pytest.approx(0.2), "what is told is the rate that nothing changes"
    groups = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.torch.param_groups for p in g["params"]}
    assert groups[id(paths["stem.weight"])] == pytest.approx((0.2 * 8 * RATE**2, 0.05))
    assert groups[id(paths["stem.bias"])] == pytest.approx((0.2 * 8 * RATE**2, 0.0))
    assert groups[id(paths["tower.layers.0.weight"])] == pytest.approx((0.2 * RATE, 0.05))
    assert id(paths["tower.layers.0.bias"]) not in groups


def test_a_run_with_rates_that_fall_goes_on_bit_for_bit(small_coca: Load, tmp_path: Path) -> None:
    decay = "optimizer.layer_decay={rate: 0.5, order: [[vision, unimodal], multimodal]}"
    whole, after, flat = Watch(), Watch(), Watch()
    uninterrupted = train(small_coca(*STEPS, decay), tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train(small_coca(*STEPS, decay), tmp_path / "stopped", Watch(stop_after=4))
    resumed = train(small_coca(*STEPS, decay), tmp_path / "stopped", after, resume=True)
    assert after.totals == {step: whole.totals[step] for step in after.totals} and min(after.totals) == 3
    state = resumed.asker.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in uninterrupted.asker.model.state_dict().items())
    train(small_coca(*STEPS), tmp_path / "flat", flat)
    assert flat.totals[0] == whole.totals[0] and flat.totals[7] != whole.totals[7]


def problems(*overrides: str, name: str = "beit3_base tasks/beit3/nlvr2") -> list[Problem]:
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load(*name.split(), overrides=overrides).check()
    return list(caught.value.problems)


ORDER = "optimizer.layer_decay.order="


@pytest.mark.parametrize(
    ("override", "place", "message", "hint"),
    [
        (
            f"{ORDER}[[patches_of, words_off], backbone]",
            "words_off",
            "no component is called `words_off`",
            "'words_of'",
        ),
        (f"{ORDER}[patches_of, backbon]", "backbon", "no component is called `backbon`", "'backbone'"),
        (f"{ORDER}[patches_of, backbone.layers]", "backbone.layers", "names no component with weights", "'backbone'"),
        (f"{ORDER}[spm, backbone]", "spm", "names no component with weights: `spm`", "components with weights: "),
        (f"{ORDER}[[backbone, words_of], backbone]", "backbone", "`backbone` stands twice", ""),
        (f"{ORDER}[]", "[]", "at least 1 item", ""),
        (f"{ORDER}[[], backbone]", "[]", "an empty list names nothing", ""),
        ("optimizer.layer_decay.rate=1.5", "1.5", "less than or equal to 1", ""),
        ("optimizer.layer_decay.rate=0", "0", "greater than 0", ""),
    ],
)
def test_mistakes_are_told_with_their_place(override: str, place: str, message: str, hint: str) -> None:
    (problem,) = problems(override)
    assert message in problem.message
    assert problem.span is not None
    assert override[problem.span.column - 1 : problem.span.end_column - 1] == place
    assert hint in " ".join(problem.hints)


def test_an_inherited_order_shrinks_when_a_component_goes(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(
        "extends: tiny/albef\n"
        "optimizer: {layer_decay: {rate: 0.5, order: [[vision, text, mlm_head], fusion, [mlm_head]]}}\n"
    )
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\ndrop: [losses.itm, losses.mlm, outputs.match]\n")
    child = Blueprint.load(str(tmp_path / "child.yaml"))
    optimizer = child.check().optimizer
    assert optimizer is not None and optimizer.layer_decay is not None
    assert optimizer.layer_decay.order == (("vision", "text"), ("fusion",))
    notes = [note for note in child.notes if "of `optimizer.layer_decay.order`" in note]
    assert notes and notes[0].count("`mlm_head`") == 2


def test_build_shows_the_levels(tmp_path: Path) -> None:
    decay = "optimizer.layer_decay={rate: 0.5, order: [[vision, text], fusion]}"
    report = Blueprint.load("tiny/albef", overrides=(decay,)).build(out=tmp_path / "run", track=False).report
    levels = {level["factor"]: level["names"] for level in report.as_json()["layer_decay"]}
    assert levels[0.5**5] == ("text",) and levels[0.5**4] == ("vision", "text.layers.0")
    assert levels[0.5**3] == ("vision.layers.0", "text.layers.1") and levels[0.5] == ("fusion.layers.1",)
    assert "vision.norm" in levels[1.0] and "text" not in levels[1.0]
    assert sum(level["parameters"] for level in report.layer_decay) == report.parameters["total"]
    shown = Console(file=io.StringIO(), width=120)
    shown.print(report_text(report.as_json(), {}))
    assert isinstance(shown.file, io.StringIO)
    assert re.search(r"0\.125 +[\d,]+ +vision\.layers\.0, text\.layers\.1", shown.file.getvalue())
