"""Whole optimiser steps of a stage with and without the compiler's passes, in turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Final

import torch

from compose_vlp.bench.timed import Bench, Timed
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.materialise import SPARE, free_memory
from compose_vlp.compiler.model import Model, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.recompute import recomputed_layers
from compose_vlp.compiler.report import StepCost, measure_where_possible
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.protocols import AfterStep
from compose_vlp.readable import storage
from compose_vlp.runtime.device import autocast, peak_memory
from compose_vlp.runtime.memory import recompute_of_stage
from compose_vlp.runtime.optimizer import make_optimizer, parameter_paths
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.stage import (
    Scale,
    StagePlan,
    Values,
    choose_of_stage,
    loss_weights,
    optimizer_of,
    plan_stage,
    stage_model,
    teacher_decays,
)
from compose_vlp.runtime.training.engines import make_engine
from compose_vlp.runtime.training.gradients import InOneGo
from compose_vlp.runtime.training.loop import StageLoop

COMPILED: Final = "compiled"
PLAIN: Final = "no passes"
FLOAT32: Final = 4
"""Bytes of a number."""
SIDE: Final = 1536
"""Rows and columns of the matrices whose product tells what the machine can do."""


def bench(
    blueprint: CheckedBlueprint,
    *,
    stage: str | None = None,
    batch: int | None = None,
    rounds: int = 5,
    device: torch.device,
) -> Bench:
    """Time whole optimiser steps of a stage: forward, backward, clipping, AdamW, teachers.

    The program as compiled and the one without passes make steps on one model, in turns, on rows that are made up; one
    round warms up. `batch` is the stage's own where it is left out, or a piece of it where gradients accumulate.

    Raises:
        UserError: there is no such stage, or none; a step does not fit into the memory that is free.
    """
    prepared = Prepared(blueprint, stage, batch)
    prepared.make_sure_it_fits(device)
    return prepared.bench(rounds, device)


class Prepared:
    """A stage whose steps may be timed: its programs, and what shapes alone say of them; no weight exists yet.

    Raises:
        UserError: there is no such stage, or none.
    """

    def __init__(self, blueprint: CheckedBlueprint, stage: str | None = None, batch: int | None = None) -> None:
        self.name = name = _stage(blueprint, stage)
        self.plan, self.own = plan_stage(blueprint, name, distribute="ddp"), blueprint.of_stage(name)
        self.rows = batch or self.plan.batch // self.plan.accumulate
        self.again = recompute_of_stage(blueprint, name).names
        self.meta, is_trained = stage_model(blueprint, name)
        self.programs = {
            COMPILED: compile_stage(blueprint, name, trainable=is_trained),
            PLAIN: compile_stage(blueprint, name, trainable=is_trained, without=list(PASSES)),
        }

    @cached_property
    def costs(self) -> dict[str, StepCost | None]:
        """Measure what a step of each program costs and holds; None where not known."""
        return {
            title: measure_where_possible(self.own, self.meta, program, self.rows, self.again, self.plan.precision)
            for title, program in self.programs.items()
        }

    @property
    def needed(self) -> int:
        """Bytes that a step holds: weights, their gradients and moments in float32, and in the stage's precision
        activations, where known.
        """
        cost = self.costs[PLAIN]
        return _held(self.meta) + (cost.activations if cost else 0)

    def make_sure_it_fits(self, device: torch.device, what: str = "", processes: int = 1) -> None:
        """Refuse what would be killed half-way.

        Raises:
            UserError: so many processes hold more than is free; `what` says of which of several steps.
        """
        needed, free, precision = processes * self.needed, free_memory(device), self.plan.precision
        if needed > SPARE * free:
            raise UserError(
                f"{what or 'a step'} holds some {storage(needed)} in {precision}, and {storage(free)} are free",
                hints=("fewer rows: `--batch`", "`build --explain` counts without weights"),
            )

    def bench(self, rounds: int, device: torch.device) -> Bench:
        """Make the model, and time its steps."""
        times = self.times(rounds, Processes(0, 1, device))
        return self.measured(times, device, torch.get_num_threads())

    def times(
        self, rounds: int, processes: Processes, programs: Sequence[str] = (COMPILED, PLAIN)
    ) -> dict[str, tuple[float, ...]]:
        """Give the seconds of each step of each program, one round after one that warms up; all processes call it."""
        device = processes.device
        model = build(self.own, device, seed=0).train()
        model.tokenizers = synthetic_tokenizers(self.own)
        model.start_teachers(list(model.worlds))
        choose_of_stage(model, self.own, self.name)
        step = Steps(self.own, model, self.plan, self.rows, device, self.again, processes)
        times: dict[str, list[float]] = {title: [] for title in programs}
        for number in range(rounds + 1):
            for title in programs:
                program = self.programs[title]
                seconds = step(program, synthetic_batch(program.plan, self.rows, device, seed=processes.rank))
                if number:
                    times[title].append(seconds)
        return {title: tuple(seconds) for title, seconds in times.items()}

    def measured(
        self, times: Mapping[str, Sequence[float]], device: torch.device, threads: int, world: int = 1
    ) -> Bench:
        """Put times beside what shapes say; rows are those of all processes, work and bytes those of each."""
        return Bench(
            stage=self.name,
            rows=self.rows * world,
            precision=self.plan.precision,
            device=device.type,
            threads=threads,
            peak_flops=peak_flops(device, self.plan.precision),
            peak_bytes=peak_memory(device),
            programs=tuple(
                Timed(title, tuple(seconds), cost and cost.flops, cost and cost.kept)
                for title, seconds in times.items()
                for cost in (self.costs[title],)
            ),
        )


class Steps:
    """Whole steps of a model by any of its programs, as training makes them; gives the seconds of one.

    Of several `processes`, each has as many `rows`; they begin a step together.
    """

    def __init__(
        self,
        blueprint: CheckedBlueprint,
        model: Model,
        plan: StagePlan,
        rows: int,
        device: torch.device,
        recompute: Collection[str] = (),
        processes: Processes | None = None,
    ) -> None:
        self.blueprint, self.model, self.device = blueprint, model, device
        self.processes = processes or Processes(0, 1, device)
        together = rows * self.processes.world
        self.values = Values(blueprint.params, Scale(together, together, 1))
        self.engine = make_engine(model, plan, self.processes, recomputed_layers(model, blueprint, recompute))
        modules = model.parts()
        settings = optimizer_of(plan.optimizer, self.values, modules)
        self.optimizer = make_optimizer(parameter_paths(modules), settings)
        self.precision: Callable[[], AbstractContextManager[None]] = autocast(device, plan.precision)

    def __call__(self, program: Compiled, batch: Mapping[str, Any]) -> float:
        loop = StageLoop(
            model=self.model,
            gradients=InOneGo(self.engine, program.run, self.processes, self.precision),
            optimizer=self.optimizer,
            batches=itertools.repeat(batch),
            weights=loss_weights(self.blueprint, program.plan.results, self.values),
            params=self.values.at,
            decays=teacher_decays(self.blueprint, self.values),
            after_step=[module for module in self.model.modules() if isinstance(module, AfterStep)],
        )
        self._wait()
        begun = time.perf_counter()
        next(loop.run(0, 1))
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        self.processes.total([0.0])
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peak_flops(device: torch.device, precision: str = "fp32", side: int = SIDE, rounds: int = 5) -> float:
    """Measure the best rate of a product of two square matrices, in operations a second."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, side, side, device=device, dtype=kind)
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * side**3 / min(seconds)


def _stage(blueprint: CheckedBlueprint, name: str | None) -> str:
    stages: Sequence[str] = list(blueprint.stages)
    if not stages:
        raise UserError("the blueprint has no stages, so there is no step to time", hints=("`stages: {train: {...}}`",))
    if name is not None and name not in stages:
        raise UserError(
            f"no stage is called {name!r}", hints=(*did_you_mean(name, stages), f"stages: {', '.join(stages)}")
        )
    return name or stages[0]


def _held(meta: Model) -> int:
    """Count the bytes of weights, their gradients and moments, in float32."""
    trained = {id(parameter): parameter.numel() for parameter in meta.parameters() if parameter.requires_grad}
    held = {id(parameter): parameter.numel() for parameter in meta.parameters()}
    return FLOAT32 * (sum(held.values()) + 3 * sum(trained.values()))
