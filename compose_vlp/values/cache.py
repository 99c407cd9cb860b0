"""What an incremental call of a component keeps from the positions before: keys and values, by layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compose_vlp.values.values import Part

KeysValues = tuple[Tensor, Tensor]


class Cache:
    """Keys and values of one call of one component during generation.

    `length` counts the positions seen before this call; all rows have the same number. `parts` are those of the first
    call, of which the last goes on, for a component that has to know where each position stands. `append` grows a
    layer's self-attention, `once` computes a layer's keys and values of a context at the first step only.
    """

    def __init__(self) -> None:
        self.length = 0
        self.parts: tuple[Part, ...] = ()
        self._valid: Tensor | None = None
        self._grown: dict[str, KeysValues] = {}
        self._fixed: dict[str, KeysValues] = {}

    def append(self, layer: str, keys: Tensor, values: Tensor) -> KeysValues:
        """All keys and values of a layer, the new ones [batch, new, heads, head_width] put last."""
        if layer in self._grown:
            old_keys, old_values = self._grown[layer]
            keys, values = torch.cat((old_keys, keys), 1), torch.cat((old_values, values), 1)
        self._grown[layer] = (keys, values)
        return keys, values

    def once(self, layer: str, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of a layer's context, projected at the first step."""
        if layer not in self._fixed:
            self._fixed[layer] = project()
        return self._fixed[layer]

    def valid(self, new: Tensor | None, positions: int) -> Tensor | None:
        """Tell which positions so far may be looked at [batch, all], those of `new` [batch, positions] last.

        None stands for positions that all may be looked at, and is what comes out where nothing was ever hidden.
        """
        if new is None and self._valid is None:
            return None
        device = (new if new is not None else self._valid).device  # type: ignore[union-attr]
        known = [self._valid, new]
        rows = next(len(mask) for mask in known if mask is not None)
        lengths = (self.length, positions)
        whole = [
            torch.ones(rows, n, dtype=torch.bool, device=device) if mask is None else mask
            for mask, n in zip(known, lengths, strict=True)
        ]
        self._valid = torch.cat(whole, 1)
        return self._valid

    def advance(self, positions: int) -> None:
        """Count positions as seen; called once by the component after its layers."""
        self.length += positions

    def drop(self, positions: int) -> None:
        """Forget the last so many positions of all that has grown."""
        self.length -= positions
        self._valid = None if self._valid is None else self._valid[:, : self.length]
        self._grown = {n: (k[:, :-positions], v[:, :-positions]) for n, (k, v) in self._grown.items()}

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows (beams), in this order; rows may repeat."""
        self._valid = None if self._valid is None else self._valid[rows]
        self._grown = {n: (k[rows], v[rows]) for n, (k, v) in self._grown.items()}
        self._fixed = {n: (k[rows], v[rows]) for n, (k, v) in self._fixed.items()}
