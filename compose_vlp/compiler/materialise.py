"""Real weights and one real step of a tiny batch: what the meta device cannot show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil
import torch
from torch import Tensor

from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.report import NotCounted, measure_flops
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import ParamRef
from compose_vlp.readable import duration, storage

ROWS: Final = 2
"""Rows of the batch: the fewest that a contrastive loss can tell apart."""
SPARE: Final = 0.9
"""Share of the free memory that may be used."""
SIZES: Final = {torch.float32: 4, torch.bfloat16: 2}


@dataclass(frozen=True)
class Materialised:
    """What one real step gave. Times are seconds, `bytes` an estimate of the most that was held."""

    precision: str
    bytes: int
    made_s: float
    step_s: float
    losses: dict[str, float]
    gradient_norm: float
    without_gradient: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def text(self) -> str:
        """In a few lines, for people."""
        losses = ", ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
        lines = [
            f"Materialised in {self.precision}, about {storage(self.bytes)}",
            f"  weights in {duration(self.made_s)}, a step of {ROWS} rows in {duration(self.step_s)}",
            f"  losses {losses}; norm of the gradient {self.gradient_norm:.4g}",
        ]
        if self.without_gradient:
            lines.append(f"  no gradient reaches {', '.join(self.without_gradient)}")
        return "\n".join(lines)


Choose = Callable[[Model], Callable[[str], bool]]
"""Sets what of a model is trained; gives whether any of a component is."""


def everything(_: Model) -> Callable[[str], bool]:
    """Train all."""
    return lambda _: True


def materialise(
    checked: CheckedBlueprint, stage: str, device: torch.device, seed: int = 0, choose: Choose = everything
) -> Materialised:
    """Make the weights and run a stage's program forward and backward on `ROWS` synthetic rows.

    float32 where it fits into the memory that is free, else bfloat16; `choose` says what of the model is trained.

    Raises:
        UserError: neither fits, nothing is trained, or a loss or gradient is not finite.
    """
    checked = checked.of_stage(stage)
    meta = build(checked, "meta")
    compiled = compile_stage(checked, stage, trainable=choose(meta))
    try:
        _, activations = measure_flops(checked, meta, compiled, ROWS)
    except NotCounted:
        activations = 0  # not known
    count = sum(parameter.numel() for parameter in meta.parameters())
    precision, needed = choose_precision(count, activations, free_memory(device))
    begin = time.perf_counter()
    model = _build(checked, device, precision, seed)
    choose(model)
    made = time.perf_counter()
    losses = _step(checked, model, compiled, device, precision, seed)
    done = time.perf_counter()
    return Materialised(
        precision=str(precision).removeprefix("torch."),
        bytes=needed,
        made_s=made - begin,
        step_s=done - made,
        losses=_finite(losses),
        gradient_norm=_gradient_norm(model),
        without_gradient=_unreached(model),
    )


def choose_precision(parameters: int, activations: int, free: int) -> tuple[torch.dtype, int]:
    """The precision in which weights, gradients and activations fit, and the bytes that they take.

    `activations` are the bytes in float32.

    Raises:
        UserError: none fits.
    """
    for dtype, size in SIZES.items():
        needed = 2 * size * parameters + activations * size // 4
        if needed <= SPARE * free:
            return dtype, needed
    raise UserError(
        f"the weights cannot be made here: even bfloat16 takes {storage(needed)} for weights, gradients and "
        f"activations of {ROWS} rows, and {storage(free)} are free",
        hints=("a machine or device with more memory (`--device`), or a smaller blueprint",),
    )


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def _build(checked: CheckedBlueprint, device: torch.device, precision: torch.dtype, seed: int) -> Model:
    before = torch.get_default_dtype()
    torch.set_default_dtype(precision)
    try:
        return build(checked, device, seed)
    finally:
        torch.set_default_dtype(before)


def _step(
    checked: CheckedBlueprint,
    model: Model,
    compiled: Compiled,
    device: torch.device,
    precision: torch.dtype,
    seed: int,
) -> dict[str, Tensor]:
    """Forward and backward; gives the losses."""
    batch = synthetic_batch(compiled.plan, ROWS, device, seed)
    model.tokenizers = synthetic_tokenizers(checked)
    params = checked.constants_and_starts()
    half = torch.autocast(device.type, dtype=precision) if precision != torch.float32 else nullcontext()
    with half:
        losses = {name: loss.value for name, loss in model(compiled.run, batch, Step(params)).items()}
    total = torch.zeros((), device=device)
    for name, value in losses.items():
        weight = checked.weight_of(name)
        total = total + (params[weight.name] if isinstance(weight, ParamRef) else weight) * value
    if not total.requires_grad:
        raise UserError("nothing is trained that the losses reach: every parameter on the way is frozen")
    total.backward()
    return {name: value.detach() for name, value in losses.items()}


def _finite(losses: dict[str, Tensor]) -> dict[str, float]:
    values = {name: float(value) for name, value in losses.items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise UserError(f"loss {wrong[0]!r} of freshly made weights is {values[wrong[0]]}")
    return values


def _gradient_norm(model: Model) -> float:
    norms = [parameter.grad.float().norm() for parameter in model.parameters() if parameter.grad is not None]
    norm = float(torch.stack(norms).norm()) if norms else 0.0
    if not math.isfinite(norm):
        raise UserError(f"the gradient of freshly made weights is not finite: {norm}")
    return norm


def _unreached(model: Model) -> tuple[str, ...]:
    """Components and losses that are trained, and of which no parameter has a gradient."""
    weights = {name: [p for p in part.parameters() if p.requires_grad] for name, part in model.parts().items()}
    return tuple(name for name, parameters in weights.items() if parameters and all(p.grad is None for p in parameters))
