"""What a process that has a piece of a model holds whole for a moment, counted beside the tensors that were alive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.sections import Distribute
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.recompute import recomputed_layers
from compose_vlp.compiler.report import held_bytes, measure_step, trained_parameters
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.compiler.units import Unit, units_of, whole_at_once
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.device import Precision, autocast
from compose_vlp.runtime.memory import StageMemory, recomputable
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.stage import choose_of_stage, plan_stage, stage_model
from compose_vlp.runtime.training import sharding
from compose_vlp.runtime.training.engines import make_engine
from tests.live_bytes import ResizedBytes
from tests.support import spawn
from tests.tiny_papers import tiny_paper

WORLD, STAGE, ROWS = 2, "pretrain", 8
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A step of the tiny CoCa under `fsdp`; layers are gathered in `half` precision, as on a GPU alone."""

    precision: Precision = "fp32"
    again: bool = False
    reshard: bool = True
    half: bool = False

    def blueprint(self) -> CheckedBlueprint:
        return Blueprint.load("tiny/coca", overrides=[f"precision={self.precision}"]).check()

    def names(self) -> tuple[str, ...]:
        return recomputable(self.blueprint(), STAGE) if self.again else ()


HALF = Case("bf16", half=True)
CASES = (Case(), Case(again=True), Case("bf16"), Case(reshard=False), HALF, replace(HALF, again=True))


@cache
def of_stage(case: Case) -> tuple[CheckedBlueprint, Model, Compiled]:
    blueprint = case.blueprint()
    meta, trained = stage_model(blueprint, STAGE)
    return blueprint.of_stage(STAGE), meta, compile_stage(blueprint, STAGE, trainable=trained)


def alive_at_most(rank: int) -> list[int]:
    return [step(case, rank) for case in CASES]


@contextmanager
def gathered_in_half() -> Iterator[None]:
    """Layers are gathered as on a GPU, and norms given float32, as autocast gives it to them there."""
    plain, shard = torch.layer_norm, sharding._shard_unit
    half = sharding.MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)

    def sharded(unit: Unit, mesh: Any, precision: Any, offload: Any, *, reshard: bool) -> None:
        assert not precision.param_dtype, "on a CPU"
        shard(unit, mesh, half, offload, reshard=reshard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "layer_norm", lambda x, shape, w, b, *rest: plain(x, shape, w.float(), b.float(), *rest))
        patch.setattr(sharding, "_shard_unit", sharded)
        yield


def step(case: Case, rank: int) -> int:
    own, _, compiled = of_stage(case)
    model = build(own, seed=0).train()
    model.tokenizers = synthetic_tokenizers(own)
    choose_of_stage(model, own, STAGE)
    plan = replace(plan_stage(own, STAGE), distribute=Distribute(use="fsdp", reshard=case.reshard))
    layers = recomputed_layers(model, own, case.names())
    batch = synthetic_batch(compiled.plan, ROWS, CPU, seed=rank)
    with gathered_in_half() if case.half else nullcontext():
        engine = make_engine(model, plan, Processes(rank, WORLD, CPU), layers)
        with ResizedBytes() as live:
            with autocast(CPU, case.precision)():
                losses = engine(compiled.run, batch, Step(own.constants_and_starts()))
            torch.stack([loss.value for loss in losses.values()]).sum().backward()
    return live.most


@pytest.fixture(scope="module")
def alive() -> dict[Case, int]:
    first, _ = spawn(alive_at_most, world=WORLD)
    return dict(zip(CASES, first, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_counted_of_a_divided_step_is_what_is_alive_in_it(case: Case, alive: dict[Case, int]) -> None:
    """Pieces of gradients, activations, whole layers and the gradients of tables and heads; a little more, not less."""
    own, meta, compiled = of_stage(case)
    whole = whole_at_once(meta, trained_parameters(meta, compiled.plan), half=case.half, stay=not case.reshard)
    halved = whole.layers if case.half else ()
    cost = measure_step(own, meta, compiled, ROWS, case.names(), case.precision, kind="cpu", halved=halved)
    gradients = held_bytes(meta, compiled.plan, cost)["gradients"] or 0
    counted = whole.most(cost.backward, WORLD, gradients, throughout=False)
    assert alive[case] * 0.97 < counted < alive[case] * 1.15


def counted(*changes: str, use: str = "fsdp", world: int = 2) -> StageMemory:
    own = tiny_paper("CoCa", "components.*.depth=4", *changes).check()
    how = Distribute(use=use, shards=2 if use == "hybrid" else None)  # type: ignore[arg-type]
    return StageMemory(own, STAGE, how, world=world, rows=2)


def test_two_layers_are_whole_in_the_precision_of_the_stage_and_the_rest_in_float32() -> None:
    for precision, size in (("fp32", 4), ("bf16", 2)):
        memory = counted(f"precision={precision}")
        layers = sorted(sum(p.numel() for p in unit.parameters()) for unit in units_of(memory.model))
        outside = sum(p.numel() for p in memory.model.parameters()) - sum(layers)
        assert memory.whole.root == 4 * outside > 0
        assert memory.whole.total == 4 * outside + size * (layers[-1] + layers[-2]) + (size + 4) * layers[-1]


def test_what_is_gathered_in_half_precision_is_rounded_no_second_time() -> None:
    memory = counted("precision=bf16")
    rounded = sum(2 * parameter.numel() for unit in units_of(memory.model) for parameter in unit.parameters())
    assert memory.cost(()).kept - memory.cost((), divided=True).kept == pytest.approx(rounded, rel=0.1)
    exact = counted("precision=fp32")
    assert exact.cost(()).kept == exact.cost((), divided=True).kept


@pytest.mark.parametrize("use", ["fsdp", "hybrid"])
def test_a_plan_says_what_is_whole_and_counts_it(use: str) -> None:
    memory = counted(use=use, world=4)
    plan, alone = memory.plan(use, ()), memory.plan("ddp", ())
    assert alone.whole_layers == 0
    assert plan.as_json()["whole_layers"] == memory.whole.total > 0
    assert plan.backward > memory.whole.root + (plan.activations or 0)
    assert plan.total == plan.weights + plan.optimizer + plan.backward + plan.gathered
