"""AdamW with rates, decay and freezing by path pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from compose_vlp.blueprint.patterns import matches_any
from compose_vlp.errors import UserError

Rate = Callable[[int], float]
"""A number as a function of the step."""


@dataclass(frozen=True)
class Rule:
    """What is different for the parameters that a pattern names; the last rule that names one wins, field by field.

    With `max_dims` it is for those of at most so many dimensions only.
    """

    match: tuple[str, ...]
    weight_decay: float | None = None
    lr_scale: float | None = None
    lr: Rate | None = None
    max_dims: int | None = None

    def names(self, path: str, dims: int) -> bool:
        """Is it for the parameter of this path and so many dimensions?"""
        return matches_any(self.match, path) and (self.max_dims is None or dims <= self.max_dims)


@dataclass(frozen=True)
class AdamW:
    """Loshchilov and Hutter 2019. `clip` bounds the norm of all gradients together.

    `factors` are on the rates of single parameters, by their ids (see `layer_decay`), whatever rules say besides.
    """

    lr: Rate
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float | None = None
    rules: tuple[Rule, ...] = ()
    factors: Mapping[int, float] = field(default_factory=dict)


def parameter_paths(components: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """`vision.patch.weight` -> parameter; a shared one stands under its first name."""
    parameters: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, module in components.items():
        for path, parameter in module.named_parameters(remove_duplicate=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters[f"{name}.{path}"] = parameter
    return parameters


def choose_trained(paths: Mapping[str, nn.Parameter], train: tuple[str, ...], freeze: tuple[str, ...]) -> set[str]:
    """Paths that a stage trains: all, or those that `train` names, less those that `freeze` names.

    Sets `requires_grad` accordingly.

    Raises:
        UserError: a pattern names no parameter.
    """
    for pattern in (*train, *freeze):
        if not any(matches_any((pattern,), path) for path in paths):
            heads = sorted({path.partition(".")[0] for path in paths})
            raise UserError(f"pattern {pattern!r} names no parameter", hints=[f"components: {', '.join(heads)}"])
    trained = {p for p in paths if (not train or matches_any(train, p)) and not matches_any(freeze, p)}
    for path, parameter in paths.items():
        parameter.requires_grad_(path in trained)
    return trained


def set_modes(components: Mapping[str, nn.Module]) -> None:
    """Training mode, but eval mode for modules all of whose parameters are frozen."""
    for module in components.values():
        parameters = list(module.parameters())
        module.train(not parameters or any(p.requires_grad for p in parameters))


@dataclass
class Optimizer:
    """torch's AdamW (fused: on a CPU 4.4 times faster than its default) and the rate of each of its groups."""

    torch: torch.optim.AdamW
    rates: list[tuple[Rate, float]]
    lr: Rate
    clip: float | None

    def set_rates(self, step: int) -> float:
        """Give every group its rate of this step; returns the one that no rule and no layer changes."""
        for group, (rate, scale) in zip(self.torch.param_groups, self.rates, strict=True):
            group["lr"] = rate(step) * scale
        return self.lr(step)


def make_optimizer(paths: Mapping[str, nn.Parameter], how: AdamW) -> Optimizer:
    """One group of parameters for each combination of rate and decay, over all that are trained.

    Raises:
        UserError: a rule names no parameter, or nothing is trained.
    """
    for rule in how.rules:
        if not any(rule.names(path, parameter.dim()) for path, parameter in paths.items()):
            few = "" if rule.max_dims is None else f", of at most {rule.max_dims} dimensions"
            raise UserError(f"an optimizer rule matches nothing: {', '.join(rule.match)}{few}")
    groups: dict[tuple[Rate, float, float], list[nn.Parameter]] = {}
    for path, parameter in paths.items():
        if parameter.requires_grad:
            rate, scale, decay = _group_of(path, how, parameter.dim())
            scale *= how.factors.get(id(parameter), 1.0)
            groups.setdefault((rate, scale, decay), []).append(parameter)
    if not groups:
        raise UserError("nothing is trained: every parameter is frozen")
    tensors = [{"params": members, "weight_decay": decay} for (_, _, decay), members in groups.items()]
    adamw = torch.optim.AdamW(tensors, lr=0.0, betas=how.betas, eps=how.eps, fused=True)
    return Optimizer(adamw, [(rate, scale) for rate, scale, _ in groups], how.lr, how.clip)


def _group_of(path: str, how: AdamW, dims: int = 0) -> tuple[Rate, float, float]:
    """Rate, its factor and the decay of a parameter of so many dimensions."""
    rate, scale, decay = how.lr, 1.0, how.weight_decay
    for rule in how.rules:
        if rule.names(path, dims):
            decay = rule.weight_decay if rule.weight_decay is not None else decay
            scale = rule.lr_scale if rule.lr_scale is not None else scale
            rate = rule.lr or rate
    return rate, scale, decay
