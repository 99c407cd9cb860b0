"""Measuring a stack of equal layers by two of them: the others cost what the second one costs.

The first layer may have an input that needs no gradient; from the second one on, equal layers cost the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from compose_vlp.compiler.flops import FlopCounter, KeptBytes

FEWEST = 3
"""Layers of a stack that is worth it."""


@dataclass
class _Cost:
    """What the second layer cost; unknown until it has run, or where it gave something else than what it was given."""

    forward: int = 0
    backward: int = 0
    kept: int = 0
    known: bool = False


class _Wrapper(nn.Module):
    """A layer in the place of another; whatever else is asked of it, the layer answers."""

    def __init__(self, layer: nn.Module, cost: _Cost, counter: FlopCounter, kept: KeptBytes) -> None:
        super().__init__()
        self.layer = layer
        self.cost, self.counter, self.kept = cost, counter, kept

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class _Measured(_Wrapper):
    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        counter, kept, cost = self.counter, self.kept, self.cost
        before = (counter.forward, counter.backward, kept.total)
        result = self.layer(x, *args, **kwargs)
        cost.forward, cost.backward = counter.forward - before[0], counter.backward - before[1]
        cost.kept = kept.total - before[2]
        cost.known = isinstance(x, Tensor) and isinstance(result, Tensor) and result.shape == x.shape
        return result


class _Again(_Wrapper):
    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.cost.known:
            return self.layer(x, *args, **kwargs)
        self.counter.forward += self.cost.forward
        self.counter.backward += self.cost.backward
        self.kept.repeated += self.cost.kept
        return x


@contextmanager
def measured_once(model: nn.Module, counter: FlopCounter, kept: KeptBytes) -> Iterator[None]:
    """Within it, layers from the third one on of every stack of equal layers are counted and not run."""
    swapped: list[tuple[nn.ModuleList, int, nn.Module]] = []
    for stack in [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) >= FEWEST]:
        layers = list(stack)
        if any(_shape(layer) != _shape(layers[0]) for layer in layers):
            continue
        cost = _Cost()
        for number, layer in enumerate(layers[1:], 1):
            swapped.append((stack, number, layer))
            stack[number] = (_Measured if number == 1 else _Again)(layer, cost, counter, kept)
    try:
        yield
    finally:
        for stack, number, layer in swapped:
            stack[number] = layer


def _shape(layer: nn.Module) -> list[tuple[str, Any]]:
    """What decides a layer's cost: classes, shapes, and what is trained."""
    modules = [(name, type(module)) for name, module in layer.named_modules()]
    return modules + [(name, (p.shape, p.requires_grad)) for name, p in layer.named_parameters()]
