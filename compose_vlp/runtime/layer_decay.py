"""Rates that fall from the last layer to the first (Clark et al. 2020, ELECTRA; Bao et al. 2022, BEiT).

Levels are counted from the bottom: those of each item of `order`, one after the other. A parameter at level `i` of `n`
learns at `rate ** (n - i)` of what it would, so that the last layer has `rate`. What is named nowhere, and what stands
behind a component's layers (its final norm), keeps its rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from compose_vlp.blueprint.sections import LayerDecay
from compose_vlp.protocols import CountsLayers


@dataclass(frozen=True)
class Level:
    """What learns at one factor: components or layers of theirs (`backbone.layers.3`) as people read them."""

    factor: float
    names: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class Layered:
    """One component's parameters by the number of their layer: -1 below the first, None behind the last.

    `count` is the number of layers; one without any is itself a layer, the only one (`whole`).
    """

    count: int
    numbers: Mapping[str, int | None]
    whole: bool = False

    @classmethod
    def of(cls, module: nn.Module) -> Layered:
        """Count the layers of a component."""
        numbers = dict(module.layer_numbers() if isinstance(module, CountsLayers) else _numbers(module))
        count = max((number for number in numbers.values() if number is not None), default=-1) + 1
        return cls(count, numbers) if count else cls(1, dict.fromkeys(numbers, 0), whole=True)


def _numbers(module: nn.Module) -> Iterator[tuple[str, int | None]]:
    layers = _layers(module)
    behind = False
    for path, _ in module.named_parameters(remove_duplicate=False):
        inside = layers is not None and path.startswith(layers)
        behind = behind or inside
        if inside:
            assert layers is not None
            yield path, int(path[len(layers) :].partition(".")[0])
        else:
            yield path, None if behind else -1


def _layers(module: nn.Module) -> str | None:
    """Find the path, with its dot, of the list of modules `layers`, or else of that which has most parameters.

    A list in another list is none.
    """
    if isinstance(getattr(module, "layers", None), nn.ModuleList):
        return "layers."
    lists: dict[str, int] = {}
    for path, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and not any(path.startswith(above) for above in lists):
            lists[f"{path}."] = sum(parameter.numel() for parameter in part.parameters())
    return max(lists, key=lambda path: lists[path], default=None)


def _level_of_each(decay: LayerDecay, modules: Mapping[str, nn.Module]) -> dict[int, int]:
    """Find the level of each parameter that `order` names, by its id, counted from the bottom.

    A shared one has the lowest of its levels. Of components in one item the last layers stand at one level; what a
    component has below its first layer stands a level below it.
    """
    levels: dict[int, int] = {}
    below = 0
    for item in decay.order:
        layered = {name: Layered.of(modules[name]) for name in item}
        top = below + max(component.count for component in layered.values())
        for name, component in layered.items():
            parameters = dict(modules[name].named_parameters(remove_duplicate=False))
            for path, number in component.numbers.items():
                if number is not None:
                    level, key = top - component.count + number, id(parameters[path])
                    levels[key] = min(level, levels.get(key, level))
        below = top
    return levels


def _count_levels(decay: LayerDecay, modules: Mapping[str, nn.Module]) -> int:
    """All levels of an order."""
    return sum(max(Layered.of(modules[name]).count for name in item) for item in decay.order)


def layer_factors(decay: LayerDecay | None, modules: Mapping[str, nn.Module]) -> dict[int, float]:
    """Compute each parameter's factor of the rate, by its id; parameters without one keep their rate."""
    if decay is None:
        return {}
    whole = _count_levels(decay, modules)
    return {key: decay.rate ** (whole - level) for key, level in _level_of_each(decay, modules).items()}


def layer_levels(decay: LayerDecay, modules: Mapping[str, nn.Module]) -> list[Level]:
    """List the levels from the bottom up, and at the end what keeps its rate."""
    factors = layer_factors(decay, modules)
    groups: dict[float, tuple[dict[str, None], dict[int, int]]] = {}
    seen: set[int] = set()
    for name in dict.fromkeys([*(component for item in decay.order for component in item), *modules]):
        layered = Layered.of(modules[name])
        for path, parameter in modules[name].named_parameters(remove_duplicate=False):
            if id(parameter) in seen:  # a shared one counts where its level is
                continue
            seen.add(id(parameter))
            names, sizes = groups.setdefault(factors.get(id(parameter), 1.0), ({}, {}))
            names[_called(name, path, layered, id(parameter) in factors)] = None
            sizes[id(parameter)] = parameter.numel()
    return [Level(factor, tuple(groups[factor][0]), sum(groups[factor][1].values())) for factor in sorted(groups)]


def _called(name: str, path: str, layered: Layered, counted: bool) -> str:
    """Name the layer, `backbone.layers.3`, what stands behind all, `backbone.norm`, or else the component."""
    number = layered.numbers[path]
    if number is None:
        return f"{name}.{path.partition('.')[0]}"
    before, marker, _ = f".{path}".partition(f".{number}.")
    return f"{name}{before}.{number}" if counted and marker and not layered.whole else name
