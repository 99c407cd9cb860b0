"""What each pass is worth: a stage's program before it and after it, counted from shapes, and timed where asked."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.materialise import choose_precision, free_memory
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.report import measure_where_possible
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint

ROUNDS: Final = 3
"""Steps of each program that are timed, after one that warms up; programs take turns."""

Timer = Callable[[Sequence[Compiled]], Sequence[float]]
"""Gives the seconds of a step of each of several programs."""


@dataclass(frozen=True)
class Measured:
    """A program: its calls, FLOPs of a step, bytes kept for the backward, seconds of a step; None what is not known."""

    calls: int
    flops: int | None
    kept_bytes: int | None
    seconds: float | None = None


@dataclass(frozen=True)
class Effect:
    """A pass, what it said, and the program before and after it, with what is kept counted in a `precision`."""

    name: str
    note: str
    before: Measured
    after: Measured
    precision: str = "fp32"


def explain(
    blueprint: CheckedBlueprint,
    stage: str,
    model: Model,
    trainable: Callable[[str], bool],
    *,
    rows: int,
    without: Collection[str] = (),
    recompute: Collection[str] = (),
    precision: str = "fp32",
    timer: Timer | None = None,
) -> tuple[Effect, ...]:
    """Measure a stage's program after each of its passes, in the order in which they run.

    The first is measured before all passes, and the last one after it is the program that runs. `model` is the stage's,
    without numbers; `without` names passes to leave out, `recompute` the components whose layers run again in the
    backward, and what is kept is that of the `precision`.
    """
    names = [name for name in PASSES if name not in without]
    programs = [
        compile_stage(blueprint, stage, trainable=trainable, without=[name for name in PASSES if name not in on])
        for on in (names[:count] for count in range(len(names) + 1))
    ]
    # a pass that changed nothing is measured no second time: equal programs cost the same
    different = {program.source: program for program in programs}
    seconds = dict(zip(different, timer([*different.values()]) if timer else [None] * len(different), strict=True))
    own = blueprint.of_stage(stage)
    costs = {
        source: measure_where_possible(own, model, program, rows, recompute, precision)
        for source, program in different.items()
    }
    stages = [
        Measured(program.plan.counted(), cost and cost.flops, cost and cost.kept, seconds[program.source])
        for program in programs
        for cost in (costs[program.source],)
    ]
    notes = {applied.name: applied.note for applied in programs[-1].passes}
    return tuple(
        Effect(name, notes[name], before, after, precision)
        for name, before, after in zip(names, stages, stages[1:], strict=False)
    )


@dataclass(frozen=True)
class StepTimer:
    """Times forward and backward of a stage's programs on synthetic rows, with weights of its own in float32.

    `choose` sets what of the model is trained.
    """

    blueprint: CheckedBlueprint
    stage: str
    choose: Callable[[Model], Any]
    device: torch.device
    rows: int

    def __call__(self, programs: Sequence[Compiled]) -> list[float]:
        """Give the medians of the seconds of a step; programs take turns.

        Raises:
            UserError: weights, gradients and activations do not fit here in float32.
        """
        own = self.blueprint.of_stage(self.stage)
        self._make_sure_it_fits(own, programs[0])
        model = build(own, self.device, seed=0).train()
        model.tokenizers = synthetic_tokenizers(own)
        model.start_teachers(list(model.worlds))
        self.choose(model)
        batch = synthetic_batch(programs[0].plan, self.rows, self.device)
        times: list[list[float]] = [[] for _ in programs]
        for number in range(ROUNDS + 1):
            for program, seconds in zip(programs, times, strict=True):
                begun = time.perf_counter()
                self._step(own, model, program, batch)
                if number:
                    seconds.append(time.perf_counter() - begun)
        return [statistics.median(seconds) for seconds in times]

    def _step(self, own: CheckedBlueprint, model: Model, program: Compiled, batch: dict[str, Any]) -> None:
        results = model(program.run, batch, Step(own.constants_and_starts()))
        total = torch.stack([loss.value.float() for loss in results.values()]).sum()
        if total.requires_grad:
            total.backward()
        model.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _make_sure_it_fits(self, own: CheckedBlueprint, program: Compiled) -> None:
        meta = build(own, "meta")
        cost = measure_where_possible(own, meta, program, self.rows)
        held = cost.activations if cost else 0
        count = sum(parameter.numel() for parameter in meta.parameters())
        if choose_precision(count, held, free_memory(self.device))[0] != torch.float32:
            hint = "fewer rows (`--batch`), a machine with more memory, or the figures without `--time`"
            raise UserError("a step of this stage does not fit here in float32, so it cannot be timed", hints=[hint])
