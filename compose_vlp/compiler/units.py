"""What of a divided model is whole at one time: the layers that are gathered where they run, and all that is no layer.

Weights of a layer are gathered before it runs, and the next layer's beside them; in the backward its gradients are
whole until they are scattered, and the sum that is sent until the next layer's is. What is no layer (tables, heads,
projections) is gathered for the whole step, and its gradients are scattered at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from torch import nn

from compose_vlp.compiler.backward import Backward
from compose_vlp.compiler.recompute import repeated_layers

FLOAT32 = 4
"""Bytes of a number in which gradients are summed, and what is no layer is gathered."""


@dataclass(frozen=True)
class Unit:
    """Layers whose parameters are gathered together: one, or several that share some of theirs."""

    layers: tuple[nn.Module, ...]

    def parameters(self) -> list[nn.Parameter]:
        """List the parameters of all its layers, each once."""
        return list(dict.fromkeys(parameter for layer in self.layers for parameter in layer.parameters()))


def units_of(model: nn.Module) -> list[Unit]:
    """Find what repeats: the elements of lists and sequences of one class that have parts of their own.

    Layers that share parameters with each other are one unit; one that shares some with what is no layer belongs to the
    root, as all else does.
    """
    layers = list(repeated_layers(model))
    number = {id(module): i for i, layer in enumerate(layers) for module in layer.modules()}
    root = len(layers)
    group = list(range(root + 1))

    def leader(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    first: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            here = leader(number.get(id(module), root))
            there = leader(first.setdefault(id(parameter), here))
            group[min(here, there)] = max(here, there)  # the root, being the last, leads whatever is joined with it
    units: dict[int, list[nn.Module]] = {}
    for i, layer in enumerate(layers):
        if leader(i) != leader(root):
            units.setdefault(leader(i), []).append(layer)
    return [Unit(tuple(members)) for members in units.values()]


@dataclass(frozen=True)
class Layer:
    """Bytes of a unit while it is whole: its weights, its gradients as they are made, and their sum as it is sent."""

    number: int
    weights: int
    gradients: int
    sent: int


@dataclass(frozen=True)
class Whole:
    """Bytes of a divided model that are whole at one time in a process.

    `root` are the weights that are no layer's, and `root_gradients` theirs, from where the backward makes them until
    its end. `layers` are by the ids of their parameters; they `stay` whole after they ran, or are given up.
    """

    root: int
    root_gradients: int
    layers: Mapping[int, Layer]
    stay: bool = False

    @property
    def total(self) -> int:
        """All that is whole at most, but for the gradients that are no layer's."""
        gradients = max((layer.gradients + layer.sent for layer in self.layers.values()), default=0)
        return self.root + self._gathered + gradients

    @property
    def _gathered(self) -> int:
        sizes = {layer.number: layer.weights for layer in self.layers.values()}
        return sum(sizes.values()) if self.stay else sum(sorted(sizes.values())[-2:])

    def most(self, step: Backward, pieces: int, gradients: int, *, throughout: bool) -> int:
        """Bytes that activations, gradients and what is whole take together at most, in a model of so many pieces.

        `gradients` are bytes of all of them, undivided; a process has its piece of them `throughout`, or from where the
        backward makes them.
        """
        divided = ceil(gradients / pieces)

        def gradient(parameter: nn.Parameter) -> int:
            if id(parameter) not in self.layers:
                return parameter.nbytes
            return 0 if throughout else ceil(parameter.nbytes / pieces)

        last = max((layer.weights for layer in self.layers.values()), default=0)
        forward = step.forward + (self._gathered if self.stay else last)
        held = self.root + max(forward, step.most(gradient, self._running()))
        at_its_end = 2 * self.root_gradients + (0 if throughout else divided)  # the root's are copied to be sent
        return max(held, at_its_end) + (divided if throughout else 0)

    def _running(self) -> Callable[[nn.Parameter], int | None]:
        """Say what is whole from where the backward comes to a weight: its layer, the next, and the last one's sum."""
        now: Layer | None = None

        def beside(parameter: nn.Parameter) -> int | None:
            nonlocal now
            layer = self.layers.get(id(parameter))
            if layer is None or layer is now:
                return None
            sent, now = (now.sent if now else 0), layer
            return (self._gathered if self.stay else 2 * layer.weights) + layer.gradients + sent

        return beside


def whole_at_once(model: nn.Module, trained: Iterable[nn.Parameter], *, half: bool, stay: bool) -> Whole:
    """Count what is whole at one time in a model, whose layers are gathered in float32, or in `half` of it.

    `trained` have gradients; layers `stay` whole after they ran, until their backward is done.
    """
    size = FLOAT32 // 2 if half else FLOAT32
    have = {id(parameter) for parameter in trained}
    layers: dict[int, Layer] = {}
    for number, unit in enumerate(units_of(model)):
        weights = unit.parameters()
        changed = _count(parameter for parameter in weights if id(parameter) in have)
        layer = Layer(number, size * _count(weights), size * changed, FLOAT32 * changed)
        layers |= dict.fromkeys(map(id, weights), layer)
    outside = [parameter for parameter in model.parameters() if id(parameter) not in layers]
    return Whole(
        root=FLOAT32 * _count(outside),
        root_gradients=FLOAT32 * _count(parameter for parameter in outside if id(parameter) in have),
        layers=layers,
        stay=stay,
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
