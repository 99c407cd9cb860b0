"""`distribute`: what is accepted, which of several holds, and what of a model is gathered together."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from compose_vlp.blueprint.sections import Distribute
from compose_vlp.compiler.model import build
from compose_vlp.compiler.units import units_of
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.evaluation.results import ready
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.readiness import look_over
from compose_vlp.runtime.stage import engine_of_stage, plan_stage
from compose_vlp.runtime.training.sharding import refuse_scalars
from tests.tiny_papers import PAPERS, tiny_paper


def coca(*overrides: str) -> CheckedBlueprint:
    return tiny_paper("CoCa", *overrides).check()


@pytest.mark.parametrize(
    ("overrides", "asked", "expected"),
    [
        ((), None, Distribute(use="ddp")),
        (("distribute=fsdp",), None, Distribute(use="fsdp")),
        (("distribute=fsdp", "stages.pretrain.distribute=ddp"), None, Distribute(use="ddp")),
        (("stages.pretrain.distribute={use: fsdp, reshard: false}",), None, Distribute(use="fsdp", reshard=False)),
        (("stages.pretrain.distribute={use: fsdp, reshard: false}",), "fsdp", Distribute(use="fsdp", reshard=False)),
        (("stages.pretrain.distribute={use: fsdp, reshard: false}",), "ddp", Distribute(use="ddp")),
        (("distribute={use: hybrid, shards: 2}",), None, Distribute(use="hybrid", shards=2)),
    ],
)
def test_the_command_line_stands_before_the_stage_and_the_stage_before_the_top(
    overrides: tuple[str, ...], asked: Any, expected: Distribute
) -> None:
    assert engine_of_stage(coca(*overrides), "pretrain", 4, asked) == expected


def test_hybrid_divides_among_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert engine_of_stage(coca("distribute=hybrid"), "pretrain", 8).shards == 4
    assert engine_of_stage(coca("distribute=hybrid"), "pretrain", 1).shards is None, "one process has nothing to divide"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(UserError, match="do not fall into groups of 1"):
        engine_of_stage(coca("distribute=hybrid"), "pretrain", 8)


def test_groups_that_do_not_divide_the_processes_are_refused_where_they_are_written() -> None:
    blueprint = tiny_paper("CoCa", "distribute={use: hybrid, shards: 3}", batch=12).check()
    with pytest.raises(BlueprintError) as raised:
        look_over(blueprint, ready, world=4)
    (problem,) = raised.value.problems
    assert "4 processes do not fall into groups of 3" in problem.message
    assert problem.hints == ("`distribute: {use: hybrid, shards: 2}`", "`distribute: {use: hybrid, shards: 4}`")
    assert problem.span is not None
    look_over(blueprint, ready, world=6)


def test_a_batch_that_the_processes_do_not_divide_is_told_with_the_nearest_that_they_do() -> None:
    with pytest.raises(UserError, match=r"a batch of 4 records does not fall into 3 processes") as raised:
        plan_stage(coca(), "pretrain", 3)
    assert raised.value.problems[0].hints == ("`batch: 3` or `batch: 6`",)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("deepspeed", "`distribute` cannot be `deepspeed`: expected ddp, fsdp or hybrid"),
        ("{use: fdsp}", "`use` cannot be `fdsp`"),
        ("{use: fsdp, shards: 2}", "`shards` is for `use: hybrid`"),
        ("{use: ddp, offload: true}", "`offload` and `reshard` are for shards"),
        ("{use: ddp, reshard: false}", "`offload` and `reshard` are for shards"),
        ("{use: hybrid, shards: 1}", "greater than or equal to 2"),
        ("{shards: 2}", "`use` is missing"),
        ("[fsdp]", "`distribute` "),
    ],
)
@pytest.mark.parametrize("place", ["distribute", "stages.pretrain.distribute"])
def test_what_no_engine_reads_is_a_mistake(written: str, message: str, place: str) -> None:
    with pytest.raises(BlueprintError) as raised:
        coca(f"{place}={written}")
    assert any(message in problem.message for problem in raised.value.problems), raised.value


# --- what is gathered together --------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)


class Tower(nn.Module):
    """A table, two layers in a list, an expert in each."""

    def __init__(self, listed: type[nn.Module] = nn.ModuleList) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 2)
        blocks = [Block(), Block()]
        blocks[0].experts = nn.ModuleList([Block(), Block()])
        self.any_name = nn.Sequential(*blocks) if listed is nn.Sequential else nn.ModuleList(blocks)


@pytest.mark.parametrize("listed", [nn.ModuleList, nn.Sequential])
def test_layers_are_found_by_their_form_and_the_outermost_is_one(listed: type[nn.Module]) -> None:
    tower = Tower(listed)
    assert [unit.layers for unit in units_of(tower)] == [(layer,) for layer in tower.any_name.children()]
    assert units_of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == [], "single maps are no layers"
    assert (
        units_of(nn.ModuleList([Block(), Tower()]))
        == [unit for unit in units_of(nn.ModuleList([Block(), Tower()])) if False]
        or len(units_of(nn.ModuleList([Block(), Tower()]))) == 2
    ), "of several classes none repeats but within"


def test_layers_that_share_weights_are_gathered_together_and_with_the_root_if_it_has_them() -> None:
    pair = nn.ModuleDict({"a": Tower(), "b": Tower()})
    first, second = pair["a"].any_name, pair["b"].any_name  # type: ignore[union-attr]
    second[1].inner.weight = first[1].inner.weight
    units = {frozenset(unit.layers) for unit in units_of(pair)}
    assert units == {frozenset({first[0]}), frozenset({second[0]}), frozenset({first[1], second[1]})}
    pair["head"] = nn.Linear(2, 2)
    pair["head"].weight = second[1].inner.weight
    assert {frozenset(unit.layers) for unit in units_of(pair)} == {frozenset({first[0]}), frozenset({second[0]})}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_layer_of_the_papers_is_found(paper: str) -> None:
    """Teachers' layers too; BLIP's encoder and decoder have theirs together."""
    model = build(tiny_paper(paper).check(), "meta")
    units = units_of(model)
    layers = {module for name, module in model.named_modules() if re.search(r"layers\.\d+$", name)}
    assert layers and {layer for unit in units for layer in unit.layers} == layers
    assert {len(unit.layers) for unit in units} == ({1, 2} if paper == "BLIP" else {1})


def test_a_single_number_cannot_be_divided() -> None:
    tower = Tower()
    tower.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError, match=r"the parameter scale has the shape \(\)"):
        refuse_scalars(tower)
    refuse_scalars(Tower())
