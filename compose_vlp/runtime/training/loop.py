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
from compose_vlp.protocols import AfterStep
from compose_vlp.runtime.optimizer import Optimizer
from compose_vlp.runtime.state import generators
from compose_vlp.runtime.training.gradients import Gradients
from compose_vlp.runtime.training.sharding import whole


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


class NotFinite(Exception):
    """A step came to losses, or to a gradient, that are no numbers; the weights are those from before it.

    `wrong` names them with their values; `noise` is the state of the generators before the step.
    """

    def __init__(
        self, step: int, wrong: Mapping[str, float], batch: Mapping[str, Any], params: Mapping[str, Any], noise: Any
    ) -> None:
        super().__init__(f"step {step}: {', '.join(f'{name} = {value}' for name, value in wrong.items())}")
        self.step, self.wrong, self.batch, self.params, self.noise = step, wrong, batch, params, noise


@dataclass
class StageLoop:
    """Runs steps `first` to `last` of a stage.

    `weights(step)` gives each loss's weight, `params(step)` the values of the blueprint's params, `decays(step)` those
    of the teachers' weights.
    """

    model: Model
    gradients: Gradients
    optimizer: Optimizer
    batches: Iterator[Mapping[str, Any]]
    weights: Callable[[int], Mapping[str, float]]
    params: Callable[[int], Mapping[str, float]]
    decays: Callable[[int], Mapping[str, float]]
    after_step: List[AfterStep] = ()

    def run(self, first: int, last: int) -> Iterator[StepReport]:
        """Do the steps, one at each `next`.

        Raises:
            NotFinite: a loss or the gradient is not finite; no weight was changed by that step.
        """
        for step in range(first, last):
            began = time.perf_counter()
            batch = next(self.batches)
            ready = time.perf_counter()
            lr = self.optimizer.set_rates(step)
            decays = self.decays(step)
            self.model.update_teachers("before", decays)
            noise, params = generators.capture(), self.params(step)
            losses = self.gradients(batch, self.weights(step), Step(params))
            norm = self._clip()
            if wrong := _not_finite({**losses.values, **({"gradient norm": norm} if norm is not None else {})}):
                raise NotFinite(step, wrong, batch, params, noise)
            self.model.commit()
            self._move()
            self.model.update_teachers("after", decays)
            done = time.perf_counter()
            yield StepReport(step, losses.values, losses.total, lr, norm, done - began, ready - began)

    def _move(self) -> None:
        self.optimizer.torch.step()
        self.optimizer.torch.zero_grad(set_to_none=True)
        for module in self.after_step:
            module.after_step()

    def _trained(self) -> list[Tensor]:
        return [p for group in self.optimizer.torch.param_groups for p in group["params"]]

    def _clip(self) -> float | None:
        """Shorten the gradient; gives the norm that it had. One that is not finite is left as it is for a look."""
        if self.optimizer.clip is None:
            return None
        trained = self._trained()
        norm = whole(torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None]))
        if math.isfinite(norm_before := float(norm)):
            torch.nn.utils.clip_grads_with_norm_(trained, self.optimizer.clip, norm)
        return norm_before


def _not_finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if not math.isfinite(value)}
