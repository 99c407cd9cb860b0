"""What generated programs call besides components and functions."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils import _pytree as pytree

from compose_vlp.auxiliary import auxiliary, with_terms
from compose_vlp.components.functions.gathered import gather
from compose_vlp.values import Embedding, Index, Labels, Logits, Mask, Sequence, Text, Value, rows_of

__all__ = ["auxiliary", "gather", "picks", "select", "split", "stack", "take", "text_of", "with_terms"]


def text_of(value: Any) -> Text:
    """The text on which a value's positions stand."""
    if isinstance(value, Text):
        return value
    texts: list[Text] = [part.text for part in value.parts if part.text is not None]
    if len(texts) != 1:
        raise ValueError(f"{len(texts)} texts under one value, expected one")
    return texts[0]


def select(loss: Any, x: Text | Sequence | Labels | Mask) -> Tensor:
    """Flat positions [chosen] of [batch * positions] at which a loss needs logits.

    On the meta device, where no word is known, every position but each row's last; of a mask, every position.
    """
    if isinstance(x, Mask):
        hidden: Tensor = loss.selects(x)
        return hidden
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


def stack(*values: Any) -> Any:
    """The rows of texts, of sequences on one text each, or of vectors under each other, padded to the longest."""
    first = values[0]
    if isinstance(first, Embedding):
        return Embedding(torch.cat([value.features for value in values]))
    if isinstance(first, Text):
        length = max(value.ids.shape[1] for value in values)
        ids = torch.cat([pad(value.ids, (0, length - value.ids.shape[1]), value=value.pad) for value in values])
        return Text(ids, torch.cat([v.lengths for v in values]), max(v.frame for v in values), first.pad)
    length = max(value.features.shape[1] for value in values)
    features = torch.cat([pad(value.features, (0, 0, 0, length - value.features.shape[1])) for value in values])
    part = dataclasses.replace(first.parts[0], length=length, text=stack(*map(text_of, values)))
    return Sequence(features, (part,), _valid(values, length))


def _valid(values: tuple[Sequence, ...], length: int) -> Tensor | None:
    """The mask [rows, length] of sequences under each other, None where every position of all of them counts."""
    if all(value.valid is None and value.features.shape[1] == length for value in values):
        return None
    masks = [
        value.features.new_ones(value.features.shape[:2], dtype=torch.bool) if value.valid is None else value.valid
        for value in values
    ]
    return torch.cat([pad(mask, (0, length - mask.shape[1]), value=False) for mask in masks])


def picks(context: Any, *indices: Index | None) -> Tensor:
    """For each row of a stack the row of the context at which it looks [rows]: that of its index, or its own (None)."""
    first = context[0] if isinstance(context, list) else context
    own = torch.arange(rows_of(first), device=first.features.device)
    return torch.cat([own if index is None else index.rows for index in indices])


def split(result: Any, like: list[Any]) -> list[Any]:
    """Split a stacked result into one result per input: its rows, and its positions on its own text."""
    pieces, start = [], 0
    for value in like:
        rows = slice(start, start + rows_of(value))
        pieces.append(_piece(result, rows, value))
        start = rows.stop
    return pieces


def _piece(result: Any, rows: slice, value: Any) -> Any:
    if isinstance(result, Embedding):
        return Embedding(result.features[rows])
    if isinstance(result, dict):  # terms of auxiliary losses
        return pytree.tree_map(lambda tensor: tensor[rows], result)
    if isinstance(result, Logits):
        return Logits(result.scores[rows])
    text = text_of(value)
    length = text.ids.shape[1]
    part = dataclasses.replace(result.parts[0], length=length, text=text)
    valid = None if result.valid is None else result.valid[rows, :length]
    return Sequence(result.features[rows, :length], (part,), valid)
