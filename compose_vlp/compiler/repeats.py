"""Measuring layers without running them all: of equal ones two, of which the second stands for the others.

Of a layer that runs again in the backward it is measured what that takes.

The first layer may have an input that needs no gradient; from the second one on, equal layers cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compose_vlp.compiler.autocast import Autocast
from compose_vlp.compiler.backward import Backward, Moment
from compose_vlp.compiler.flops import FlopCounter
from compose_vlp.compiler.kept import KeptBytes
from compose_vlp.compiler.recompute import Recomputed, replaced_forwards, tensors_in

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
    passing: int = 0
    rounded: int = 0
    waits: bool = False
    given: Any = None


@dataclass(frozen=True)
class _Stack:
    """Equal layers, whose forwards are replaced on the modules themselves: whoever asks what they are is told."""

    counter: FlopCounter
    kept: KeptBytes
    cost: _Cost

    def measured(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        counter, kept, cost = self.counter, self.kept, self.cost
        before = (counter.forward, counter.backward, len(kept.moments))
        result = run(*args, **kwargs)
        cost.forward, cost.backward = counter.forward - before[0], counter.backward - before[1]
        moments = kept.moments[before[2] :]
        cost.kept, cost.passing = sum(m.kept for m in moments), max((m.passing for m in moments), default=0)
        cost.rounded = sum(m.rounded for m in moments)
        cost.waits = any(m.waiting for m in moments)
        same = args and isinstance(args[0], Tensor) and isinstance(result, Tensor) and _kind(result) == _kind(args[0])
        cost.given = _given(args, kwargs) if same else None
        return result

    def repeated(self, layer: nn.Module, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.cost.given is None or self.cost.given != _given(args, kwargs):
            return run(*args, **kwargs)
        self.counter.forward += self.cost.forward
        self.counter.backward += self.cost.backward
        waiting = self.kept.waiting_for(tensors_in((args[1:], kwargs))) if self.cost.waits else ()
        self.kept.add(Moment(self.cost.kept, _trained(layer), self.cost.passing, waiting, self.cost.rounded))
        return args[0]


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype


def _given(args: Any, kwargs: Any) -> Any:
    """The shapes of tensors, and all else as it is; caches and the like by what they are."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    plain = int | float | str | bool | None
    words = [
        (*_kind(leaf), leaf.requires_grad)
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
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for listed in [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) >= FEWEST]:
        layers = list(listed)
        equal = all(_shape(layer) == _shape(layers[0]) for layer in layers)
        if not equal or len(set(layers)) < len(layers) or any(layer in forwards for layer in layers):
            continue
        stack = _Stack(counter, kept, _Cost())
        forwards[layers[1]] = partial(stack.measured, layers[1].forward)
        forwards |= {layer: partial(stack.repeated, layer, layer.forward) for layer in layers[2:]}
    with replaced_forwards(forwards):
        yield


@contextmanager
def counted_again(
    layers: Collection[Recomputed], counter: FlopCounter, autocast: Autocast, kept: KeptBytes
) -> Iterator[None]:
    """Within it, these layers keep what they are given, and cost a second forward as far as it goes."""

    def counted(each: Recomputed, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not each.needs_gradients(args, kwargs):
            return run(*args, **kwargs)
        given = kept.keep(tensors_in((args, kwargs)))
        before, rounded = counter.forward, autocast.rounded
        with kept.aside(lambda: counter.forward) as inner:
            result = run(*args, **kwargs)
        counter.backward += max(inner.reached - before, 0)  # the second run ends where the last tensor is kept
        waiting = kept.waiting_for(tensors_in((args[1:], kwargs)))
        again, rounded = Backward(tuple(inner.moments)).most(), autocast.rounded - rounded
        kept.add(Moment(given, _trained(each.layer), again, waiting, rounded))
        return result

    with replaced_forwards({each.layer: partial(counted, each, each.layer.forward) for each in layers}):
        yield


def _trained(layer: nn.Module) -> tuple[nn.Parameter, ...]:
    return tuple(parameter for parameter in layer.parameters() if parameter.requires_grad)


def _shape(layer: nn.Module) -> list[tuple[str, Any]]:
    """List what decides a layer's cost: classes, shapes, and what is trained."""
    modules = [(name, type(module)) for name, module in layer.named_modules()]
    return modules + [(name, (p.shape, p.requires_grad)) for name, p in layer.named_parameters()]
