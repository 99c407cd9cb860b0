"""What generated programs call besides components and functions."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from compose_vlp.values import Index, Labels, Sequence, Text, Value

__all__ = ["select", "take", "text_of"]


def text_of(value: Any) -> Text:
    """The text on which a value's positions stand."""
    if isinstance(value, Text):
        return value
    texts: list[Text] = [part.text for part in value.parts if part.text is not None]
    if len(texts) != 1:
        raise ValueError(f"{len(texts)} texts under one value, expected one")
    return texts[0]


def select(loss: Any, x: Text | Sequence | Labels) -> Tensor:
    """Flat positions [chosen] of [batch * positions] at which a loss needs logits.

    On the meta device, where no word is known, every position but each row's last.
    """
    asked = x if isinstance(x, Labels) else text_of(x)
    if asked.ids.device.type == "meta":
        return torch.empty(asked.ids.shape[0] * (asked.ids.shape[1] - 1), dtype=torch.long, device="meta")
    positions: Tensor = loss.selects(asked)
    return positions


def take(x: Value, index: Index) -> Any:
    """`x[index]`: the rows of `x` that the index names, of every tensor with a row dimension."""
    rows = index.rows
    if isinstance(x, Sequence):
        parts = tuple(dataclasses.replace(p, text=take(p.text, index)) if p.text is not None else p for p in x.parts)
        return Sequence(x.features[rows], parts, None if x.valid is None else x.valid[rows])
    changed = {
        f.name: getattr(x, f.name)[rows]
        for f in dataclasses.fields(x)
        if isinstance(getattr(x, f.name), Tensor) and getattr(x, f.name).dim() > 0
    }
    return dataclasses.replace(x, **changed)
