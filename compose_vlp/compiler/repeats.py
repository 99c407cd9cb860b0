"""Measuring a list of equal layers by two of them: others, given the same shapes, cost what the second one costs.

The first layer may have an input that needs no gradient; from the second one on, equal layers cost the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compose_vlp.compiler.flops import FlopCounter, KeptBytes

FEWEST = 3
"""Layers of a stack that is worth it."""


@dataclass
class _Cost:
    """What the second layer cost, given tensors of these shapes; unknown until it has run.

    It stays unknown where the layer gave something else than it was given: then the next one cannot stand on that.
    """

    forward: int = 0
    backward: int = 0
    kept: int = 0
    given: Any = None


@dataclass(frozen=True)
class _Stack:
    """Equal layers, whose forwards are replaced on the modules themselves: whoever asks what they are is told."""

    counter: FlopCounter
    kept: KeptBytes
    cost: _Cost

    def measure(self, layer: nn.Module) -> None:
        run = layer.forward

        def measured(*args: Any, **kwargs: Any) -> Any:
            counter, kept, cost = self.counter, self.kept, self.cost
            before = (counter.forward, counter.backward, kept.total)
            result = run(*args, **kwargs)
            cost.forward, cost.backward = counter.forward - before[0], counter.backward - before[1]
            cost.kept = kept.total - before[2]
            same = args and isinstance(args[0], Tensor) and isinstance(result, Tensor) and result.shape == args[0].shape
            cost.given = _given(args, kwargs) if same else None
            return result

        layer.forward = measured

    def repeat(self, layer: nn.Module) -> None:
        run = layer.forward

        def repeated(*args: Any, **kwargs: Any) -> Any:
            if self.cost.given is None or self.cost.given != _given(args, kwargs):
                return run(*args, **kwargs)
            self.counter.forward += self.cost.forward
            self.counter.backward += self.cost.backward
            self.kept.repeated += self.cost.kept
            return args[0]

        layer.forward = repeated


def _given(args: Any, kwargs: Any) -> Any:
    """The shapes of tensors, and all else as it is; caches and the like by what they are."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    plain = int | float | str | bool | None
    words = [
        (tuple(leaf.shape), leaf.requires_grad)
        if isinstance(leaf, Tensor)
        else leaf
        if isinstance(leaf, plain)
        else type(leaf)
        for leaf in leaves
    ]
    return words, str(spec)


@contextmanager
def measured_once(model: nn.Module, counter: FlopCounter, kept: KeptBytes) -> Iterator[None]:
    """Within it, layers from the third one on of every list of equal layers are counted and not run."""
    changed: dict[int, nn.Module] = {}
    for listed in [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) >= FEWEST]:
        layers = list(listed)
        equal = all(_shape(layer) == _shape(layers[0]) for layer in layers)
        if (
            not equal
            or len({id(layer) for layer in layers}) < len(layers)
            or any(id(layer) in changed for layer in layers)
        ):
            continue
        stack = _Stack(counter, kept, _Cost())
        stack.measure(layers[1])
        for layer in layers[2:]:
            stack.repeat(layer)
        changed |= {id(layer): layer for layer in layers[1:]}
    try:
        yield
    finally:
        for layer in changed.values():
            del layer.forward


def _shape(layer: nn.Module) -> list[tuple[str, Any]]:
    """List what decides a layer's cost: classes, shapes, and what is trained."""
    modules = [(name, type(module)) for name, module in layer.named_modules()]
    return modules + [(name, (p.shape, p.requires_grad)) for name, p in layer.named_parameters()]
