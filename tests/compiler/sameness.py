"""Does a program with passes give the losses, gradients and state of the one without?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.compile import Compiled
from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.passes import PASSES
from compose_vlp.values import Scalar

NONE = tuple(PASSES)
CHOICES: tuple[tuple[str, ...], ...] = ((), *((name,) for name in PASSES))
"""What is left out: nothing, and each pass alone; all of them is what these are compared with."""


@dataclass(frozen=True)
class Outcome:
    """The losses (or other values) by name, and the gradient of each weight and the buffers after a step."""

    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    state: Mapping[str, Tensor]


def outcome(model: Model, compiled: Compiled, batch: Mapping[str, Any], step: Step) -> Outcome:
    """One training step without an optimizer; the model's buffers are put back, and all draws begin alike."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    model.zero_grad()
    torch.manual_seed(1)
    results = model(compiled.run, batch, step)
    losses = [result.value for result in results.values() if isinstance(result, Scalar)]
    total = torch.stack(losses).sum()
    if total.requires_grad:
        total.backward()
    model.commit()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return Outcome({n: result.value.detach() for n, result in results.items()}, gradients, state)


def assert_same(actual: Outcome, expected: Outcome, what: str, tolerance: float = 1e-9) -> None:
    """In float64, to rounding, relative to each tensor's norm; weights without a gradient count as of gradient 0."""
    for field in ("values", "gradients", "state"):
        mine: Mapping[str, Tensor] = getattr(actual, field)
        other: Mapping[str, Tensor] = getattr(expected, field)
        for name in mine.keys() | other.keys():
            a, b = mine.get(name), other.get(name)
            a = torch.zeros_like(b) if a is None and b is not None else a
            b = torch.zeros_like(a) if b is None and a is not None else b
            assert a is not None and b is not None
            difference = float((a.double() - b.double()).norm())
            scale = float(b.double().norm()) + 1e-3
            assert difference <= tolerance * scale, f"{what}: {field} of {name} differ by {difference} of {scale}"
