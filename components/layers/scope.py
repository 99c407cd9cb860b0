"""What the positions of a tower may attend to: the same value for every branch of every layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compose_vlp.values import Part
from compose_vlp.values.cache import Cache, KeysValues


@dataclass(frozen=True)
class Scope:
    """One call of a tower, as its layers see it.

    Args:
        valid: `[batch, m]`, false at positions to which none may attend (padding); None where there are no such.
        causal: a position attends to itself and to earlier ones only.
        parts: the modalities of the positions; none where the tower makes no difference.
        places: `[n, axes]`, where each position stands, on a line or on a grid; one after the other where it is None.
        cache: keys and values of the positions before those of this call.
        layer: the number of the layer that looks.
    """

    valid: Bool[Tensor, "batch m"] | None = None
    causal: bool = False
    parts: tuple[Part, ...] = ()
    places: Int[Tensor, "n axes"] | None = None
    cache: Cache | None = None
    layer: int = 0

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
