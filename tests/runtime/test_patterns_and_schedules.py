"""Paths by pattern, values by step, parameters by group."""

import math

import pytest
import torch
from torch import nn

from compose_vlp.blueprint.patterns import matches
from compose_vlp.errors import UserError
from compose_vlp.runtime.optimizer import AdamW, Rule, choose_trained, make_optimizer, parameter_paths, set_modes
from compose_vlp.runtime.schedules import Schedule


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("vision", "vision.patch.weight", True),
        ("vision", "vision_2.patch.weight", False),
        ("**.bias", "vision.layers.0.norm.bias", True),
        ("**.bias", "bias", True),
        ("**.bias", "vision.bias_table", False),
        ("text.layers.*.norm", "text.layers.3.norm.weight", True),
        ("text.layers.*.norm", "text.layers.3.mlp.norm.weight", False),
        ("*.embedding", "text.embedding.weight", True),
        ("**", "anything.at.all", True),
        ("**.experts.language", "upper.layers.2.experts.language.fc1.weight", True),
    ],
)
def test_pattern(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_schedules_pass_through_their_known_points() -> None:
    cosine = Schedule("cosine", 1.0, 0.2, over=110, warmup=10)
    assert cosine.at(0) == pytest.approx(0.1) and cosine.at(9) == 1.0 and cosine.at(10) == 1.0
    assert cosine.at(60) == pytest.approx(0.6) and cosine.at(110) == pytest.approx(0.2) == cosine.at(500)
    exponential = Schedule("exponential", 1.0, 0.01, over=110, warmup=10)
    assert exponential.at(10) == 1.0 and exponential.at(60) == pytest.approx(0.1) and exponential.at(300) == 0.01
    assert cosine.at(35) == pytest.approx(1 - 0.8 * (1 - math.cos(math.pi / 4)) / 2)
    linear = Schedule("linear", 0.0, 0.4, over=100)
    assert [linear.at(s) for s in (0, 50, 100, 900)] == pytest.approx([0, 0.2, 0.4, 0.4])
    step = Schedule("step", 0.0, 0.2, over=100, warmup=10, warmup_from=-1.0)
    assert [step.at(s) for s in (0, 9, 10, 99, 100, 5000)] == pytest.approx([-0.9, 0, 0, 0, 0.2, 0.2])
    assert Schedule("constant", 3.0, 3.0, over=1).at(77) == 3.0


def modules() -> dict[str, nn.Module]:
    return {"vision": nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), "head": nn.Linear(3, 2)}


def test_rules_set_decay_and_rates_by_pattern() -> None:
    paths = parameter_paths(modules())
    how = AdamW(
        lambda step: 0.1 / (step + 1),
        weight_decay=0.05,
        rules=(Rule(("**.bias", "vision.1"), weight_decay=0.0), Rule(("head",), lr_scale=2.0)),
    )
    optimizer = make_optimizer(paths, how)
    assert optimizer.set_rates(1) == pytest.approx(0.05)
    by_id = {id(p): group for group in optimizer.torch.param_groups for p in group["params"]}
    actual = {path: (by_id[id(p)]["weight_decay"], by_id[id(p)]["lr"]) for path, p in paths.items()}
    assert actual["vision.0.weight"] == pytest.approx((0.05, 0.05))
    assert actual["vision.0.bias"] == pytest.approx((0.0, 0.05))
    assert actual["vision.1.weight"] == pytest.approx((0.0, 0.05))
    assert actual["head.weight"] == pytest.approx((0.05, 0.1))
    assert actual["head.bias"] == pytest.approx((0.0, 0.1))


def test_a_rule_may_be_for_parameters_of_few_dimensions() -> None:
    paths = parameter_paths(modules())
    how = AdamW(lambda _: 0.1, weight_decay=0.05, rules=(Rule(("**",), weight_decay=0.0, max_dims=1),))
    groups = make_optimizer(paths, how).torch.param_groups
    actual = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {path for path, p in paths.items() if actual[id(p)] == 0} == {
        "vision.0.bias", "vision.1.weight", "vision.1.bias", "head.bias",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"matches nothing: head, of at most 0 dimensions"):
        make_optimizer(paths, AdamW(lambda _: 0.1, rules=(Rule(("head",), max_dims=0),)))


def test_rule_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="matches nothing"):
        make_optimizer(parameter_paths(modules()), AdamW(lambda s: 1.0, rules=(Rule(("**.biass",)),)))


def test_frozen_components_get_no_gradient_and_stay_in_eval_mode() -> None:
    parts = modules()
    paths = parameter_paths(parts)
    assert choose_trained(paths, (), ("vision",)) == {"head.weight", "head.bias"}
    set_modes(parts)
    assert not parts["vision"].training and parts["head"].training
    assert not paths["vision.0.weight"].requires_grad
    assert len(make_optimizer(paths, AdamW(lambda s: 1.0)).torch.param_groups[0]["params"]) == 2
    with pytest.raises(UserError, match="names no parameter"):
        choose_trained(paths, ("visoin",), ())
    choose_trained(paths, (), ("**",))
    with pytest.raises(UserError, match="nothing is trained"):
        make_optimizer(paths, AdamW(lambda s: torch.pi))
