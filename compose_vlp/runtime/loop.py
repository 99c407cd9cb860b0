"""One stage of training: batches in, steps done, losses told to whoever listens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.source import Program
from compose_vlp.errors import UserError
from compose_vlp.runtime.optimizer import Optimizer


@dataclass(frozen=True)
class StepReport:
    """What one step came to: losses unweighted by name, their weighted sum, rate, gradient norm, seconds."""

    step: int
    losses: Mapping[str, float]
    total: float
    lr: float
    gradient_norm: float | None
    seconds: float
    waiting: float  # of these, seconds in which the next batch was not there


@dataclass
class StageLoop:
    """Runs steps `first` to `last` of a stage.

    `weights(step)` gives each loss's weight, `params(step)` the values of the blueprint's params;
    `autocast()` and `backward(loss)` belong to the device's keeper.
    """

    model: Model
    forward: Callable[..., dict[str, Any]]
    program: Program
    optimizer: Optimizer
    batches: Iterator[Mapping[str, Any]]
    weights: Callable[[int], Mapping[str, float]]
    params: Callable[[int], Mapping[str, float]]
    autocast: Callable[[], Any]
    backward: Callable[[Tensor], None]
    decays: Callable[[int], Mapping[str, float]] = lambda _: {}  # of the teachers' weights
    after_step: List[Any] = ()  # modules with a method of that name, called after every optimiser step

    def run(self, first: int, last: int) -> Iterator[StepReport]:
        """Do the steps, one at each `next`.

        Raises:
            UserError: a loss is not finite; nothing was changed by that step.
        """
        for step in range(first, last):
            began = time.perf_counter()
            batch = next(self.batches)
            ready = time.perf_counter()
            lr = self.optimizer.set_rates(step)
            decays = self.decays(step)
            self.model.update_teachers("before", decays)
            losses, total = self._losses(step, batch)
            self.backward(total)
            self.model.commit()
            norm = self._clip()
            self.optimizer.torch.step()
            self.optimizer.torch.zero_grad(set_to_none=True)
            for module in self.after_step:
                module.after_step()
            self.model.update_teachers("after", decays)
            done = time.perf_counter()
            yield StepReport(step, losses, float(total.detach()), lr, norm, done - began, ready - began)

    def _losses(self, step: int, batch: Mapping[str, Any]) -> tuple[dict[str, float], Tensor]:
        weights = self.weights(step)
        with self.autocast():
            values = self.forward(self.program, batch, Step(self.params(step)))
        total = torch.stack([weights[name] * loss.value.float() for name, loss in values.items()]).sum()
        plain = {name: float(loss.value.detach()) for name, loss in values.items()}
        wrong = [name for name, value in plain.items() if not math.isfinite(value)]
        if wrong:
            shown = ", ".join(f"{name} = {plain[name]}" for name in wrong)
            raise UserError(
                f"step {step}: {shown}",
                hints=[
                    "the weights are those from before this step",
                    "a lower learning rate or a longer warm-up often helps",
                ],
            )
        return plain, total

    def _clip(self) -> float | None:
        if self.optimizer.clip is None:
            return None
        parameters = [p for group in self.optimizer.torch.param_groups for p in group["params"]]
        return float(torch.nn.utils.clip_grad_norm_(parameters, self.optimizer.clip))
