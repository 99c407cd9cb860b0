"""The root module: every component once, shared parts tied, and the programs that run over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from compose_vlp.compiler.sharing import tie
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.values.cache import Cache


@dataclass
class Step:
    """What a program may ask of the moment: the values of params' schedules, and caches during generation."""

    params: Mapping[str, Any] = field(default_factory=dict)
    caches: dict[str, Cache] = field(default_factory=dict)


class Named(nn.Module):
    """Modules under any names, those of `nn.Module`'s own attributes included (a component may be called `train`)."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(modules)

    def by_name(self) -> SimpleNamespace:
        return SimpleNamespace(**{name: module for name, module in self._modules.items() if module is not None})


class Model(nn.Module):
    """One root for all programs of a blueprint, so that wrappers (DDP, FSDP2) see one module and one forward."""

    def __init__(self, blueprint: CheckedBlueprint) -> None:
        super().__init__()
        built = {
            name: part.kind.implementation(part.config)
            for name, part in blueprint.components.items()
            if part.kind.category == "component"
        }
        self.components = Named(built)
        self.losses = Named({name: loss.kind.implementation(loss.config) for name, loss in blueprint.losses.items()})
        tie(built, blueprint.components)
        self.student = self.components.by_name()
        self.losses_by_name = self.losses.by_name()
        self.worlds: dict[str, SimpleNamespace] = {}

    def forward(self, program: Any, batch: Mapping[str, Any], step: Step | None = None) -> dict[str, Any]:
        """Run a compiled program on a batch of inputs by name."""
        result: dict[str, Any] = program(self, batch, step or Step())
        return result

    def component_parameters(self) -> dict[str, int]:
        """Parameters of each component; one that is shared counts with the component that owns it."""
        seen: set[int] = set()
        return {name: _count(module.parameters(), seen) for name, module in self._owners_first()}

    def _owners_first(self) -> Iterable[tuple[str, nn.Module]]:
        return ((name, module) for name, module in self.components._modules.items() if module is not None)


def _count(parameters: Iterable[nn.Parameter], seen: set[int]) -> int:
    fresh = [p for p in parameters if id(p) not in seen]
    seen.update(id(p) for p in fresh)
    return sum(p.numel() for p in fresh)


def build(blueprint: CheckedBlueprint, device: torch.device | str = "cpu", seed: int | None = None) -> Model:
    """The model with fresh weights (none on the meta device); `seed` makes them repeatable."""
    if seed is not None:
        torch.manual_seed(seed)
    with torch.device(device):
        return Model(blueprint)
