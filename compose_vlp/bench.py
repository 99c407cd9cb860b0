"""How fast a stage's step is here: whole optimiser steps with and without the compiler's passes, in turns."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.materialise import SPARE, free_memory
from compose_vlp.compiler.model import Model, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.recompute import recomputed_layers
from compose_vlp.compiler.report import NotCounted, measure_step
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.protocols import AfterStep
from compose_vlp.readable import percent, several, storage, work
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
from compose_vlp.runtime.training.engine import Engine
from compose_vlp.runtime.training.gradients import InOneGo
from compose_vlp.runtime.training.loop import StageLoop

PLAIN: Final = "no passes"
FLOAT32: Final = 4
"""Bytes of a number."""
SIDE: Final = 1536
"""Rows and columns of the matrices whose product tells what the machine can do."""


@dataclass(frozen=True)
class Timed:
    """A program: seconds of each of its steps, FLOPs and bytes kept for the backward (None where not known)."""

    name: str
    seconds: tuple[float, ...]
    flops: int | None
    kept_bytes: int | None

    @property
    def median(self) -> float:
        """Seconds of a step in the middle."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Bench:
    """What was measured of one stage; `peak_flops` are those of a large matrix product here, a second."""

    stage: str
    rows: int
    precision: str
    device: str
    threads: int
    peak_flops: float
    peak_bytes: int
    programs: tuple[Timed, ...]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        medians = [program.median for program in self.programs]
        programs = [{**asdict(each), "median": median} for each, median in zip(self.programs, medians, strict=True)]
        return {**asdict(self), "programs": programs}

    def text(self) -> Group:
        """Put it into a table, for people."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for heading in ("program", "a step", "rows/s", "work", "of the peak", "activations"):
            table.add_column(heading, justify="left" if heading == "program" else "right")
        for program in self.programs:
            rate = program.flops / program.median / self.peak_flops if program.flops else None
            table.add_row(
                program.name,
                f"{program.median:.3g} s",
                f"{self.rows / program.median:.3g}",
                "not known" if program.flops is None else work(program.flops),
                "not known" if rate is None else percent(rate),
                "not known" if program.kept_bytes is None else storage(program.kept_bytes),
            )
        threads = f", {several(self.threads, 'thread')}" if self.device == "cpu" else ""
        compiled, plain = self.programs
        pairs = [there / here for there, here in zip(plain.seconds, compiled.seconds, strict=True)]
        factor = f"{statistics.median(pairs):.2f} times as long ({min(pairs):.2f} to {max(pairs):.2f})"
        here = f"A matrix product reaches {work(self.peak_flops)} a second here"
        lines = [
            f"Step by step, {plain.name} takes {factor}.",
            f"{here}; the process held {storage(self.peak_bytes)} at most.",
        ]
        heading = f"Stage {self.stage}: {several(self.rows, 'row')} a step, {self.precision}, {self.device}{threads}"
        return Group(Text(heading, style="bold"), table, *map(Text, lines))


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
    name = _stage(blueprint, stage)
    plan, own = plan_stage(blueprint, name), blueprint.of_stage(name)
    rows = batch or plan.batch // plan.accumulate
    meta, is_trained = stage_model(blueprint, name)
    programs = {
        "compiled": compile_stage(blueprint, name, trainable=is_trained),
        PLAIN: compile_stage(blueprint, name, trainable=is_trained, without=list(PASSES)),
    }
    again = recompute_of_stage(blueprint, name).names
    costs = {title: _counted(own, meta, program, rows, again) for title, program in programs.items()}
    _make_sure_it_fits(meta, costs[PLAIN][1] or 0, device)
    model = build(own, device, seed=0).train()
    model.tokenizers = synthetic_tokenizers(own)
    model.start_teachers(list(model.worlds))
    choose_of_stage(model, own, name)
    step = Steps(own, model, plan, rows, device, again)
    times: dict[str, list[float]] = {title: [] for title in programs}
    for number in range(rounds + 1):
        for title, program in programs.items():
            seconds = step(program, synthetic_batch(program.plan, rows, device))
            if number:
                times[title].append(seconds)
    return Bench(
        stage=name,
        rows=rows,
        precision=plan.precision,
        device=device.type,
        threads=torch.get_num_threads(),
        peak_flops=peak_flops(device, plan.precision),
        peak_bytes=peak_memory(device),
        programs=tuple(Timed(title, tuple(times[title]), *costs[title]) for title in programs),
    )


class Steps:
    """Whole steps of a model by any of its programs, as training makes them; gives the seconds of one."""

    def __init__(
        self,
        blueprint: CheckedBlueprint,
        model: Model,
        plan: StagePlan,
        rows: int,
        device: torch.device,
        recompute: Collection[str] = (),
    ) -> None:
        self.blueprint, self.model, self.device = blueprint, model, device
        self.values = Values(blueprint.params, Scale(rows, rows, 1))
        modules = model.parts()
        settings = optimizer_of(plan.optimizer, self.values, modules)
        self.optimizer = make_optimizer(parameter_paths(modules), settings)
        self.precision: Callable[[], AbstractContextManager[None]] = autocast(device, plan.precision)
        self.processes = Processes(0, 1, device)
        self.engine = Engine(model, recomputed_layers(model, blueprint, recompute))

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


def _make_sure_it_fits(meta: Model, kept_bytes: int, device: torch.device) -> None:
    """Refuse what would be killed half-way: weights, their gradients and moments in float32, and activations."""
    trained = {id(parameter): parameter.numel() for parameter in meta.parameters() if parameter.requires_grad}
    held = {id(parameter): parameter.numel() for parameter in meta.parameters()}
    needed = FLOAT32 * (sum(held.values()) + 3 * sum(trained.values())) + kept_bytes
    free = free_memory(device)
    if needed > SPARE * free:
        raise UserError(
            f"a step holds some {storage(needed)}, and {storage(free)} are free",
            hints=("fewer rows: `--batch`", "`build --explain` counts without weights"),
        )


def _counted(
    blueprint: CheckedBlueprint, model: Model, program: Compiled, rows: int, recompute: Collection[str]
) -> tuple[int | None, int | None]:
    try:
        cost = measure_step(blueprint, model, program, rows, recompute)
    except NotCounted:
        return None, None
    return cost.flops, cost.kept
