"""What the positions of a tower may attend to: the same value for every branch of every layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from compose_vlp.values.cache import Cache, KeysValues


class Run(NamedTuple):
    """Positions that go to one expert."""

    expert: str
    start: int
    stop: int


@dataclass(frozen=True)
class Scope:
    """One call of a tower, as its layers see it.

    Args:
        valid: `[batch, m]`, false at positions to which none may attend (padding); None where there are no such.
        causal: a position attends to itself and to earlier ones only.
        runs: experts by name, with the first position of each run of theirs and the one behind it; none where the
            tower has no experts.
        places: `[n, axes]`, where each position stands, on a line or on a grid; one after the other where it is None.
        biases: `[layers, heads, n, m]`, added to the scores of each layer's self-attention, or what may be seen, which
            is one for all layers and heads, `[1, 1, n, m]`.
        cache: keys and values of the positions before those of this call.
        layer: the number of the layer that looks.
    """

    valid: Bool[Tensor, "batch m"] | None = None
    causal: bool = False
    runs: tuple[Run, ...] = ()
    places: Int[Tensor, "n axes"] | None = None
    biases: Shaped[Tensor, "layers heads n m"] | None = None
    cache: Cache | None = None
    layer: int = 0

    @property
    def bias(self) -> Shaped[Tensor, "heads n m"] | None:
        """What is added to this layer's scores."""
        return None if self.biases is None else self.biases[self.layer % len(self.biases)]

    @property
    def start(self) -> int:
        """Positions that came before those of this call."""
        return 0 if self.cache is None else self.cache.length

    def at(self, layer: int) -> "Scope":
        """The same call for one layer."""
        return replace(self, layer=layer)

    def places_of(self, positions: int, device: torch.device) -> Int[Tensor, "n axes"]:
        """Where so many positions stand."""
        if self.places is not None:
            return self.places
        return torch.arange(self.start, self.start + positions, device=device)[:, None]

    def grown(self, keys: Tensor, values: Tensor) -> KeysValues:
        """These keys and values `[batch, n, heads, head_width]`, behind those of the positions before."""
        return (keys, values) if self.cache is None else self.cache.append(self._name, keys, values)

    def once(self, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of a context; of a text that is written, projected at its first word only."""
        return project() if self.cache is None else self.cache.once(self._name, project)

    @property
    def _name(self) -> str:
        return f"layer {self.layer}"
