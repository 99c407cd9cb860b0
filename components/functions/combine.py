"""Several values made one: their sum, their mean, their channels or their rows side by side."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.graph.likeness import merged
from compose_vlp.graph.types import RowSpace, SequenceType
from compose_vlp.registry import EACH, Like, function
from compose_vlp.values import Embedding, Index, Logits, Sequence, Similarity, as_list

Scores = (
    Annotated[Similarity, "rows columns", EACH]
    | Annotated[Logits, "rows classes", EACH]
    | Annotated[Logits, "rows length classes", EACH]
)
Values = Annotated[Embedding, "rows width", EACH] | Annotated[Sequence, "rows tokens width", EACH] | Scores
Channels = Annotated[Embedding, "rows any_width", EACH] | Annotated[Sequence, "rows tokens any_width", EACH]
Rows = Annotated[Embedding, "any_rows width", EACH] | Annotated[Sequence, "any_rows any_tokens width", EACH]
AnyValue: TypeAlias = Embedding | Sequence | Similarity | Logits


def _all_channels(_: None, ports: Mapping[str, Any]) -> Any:
    widths = [value.width for value in ports["values"]]
    return replace(merged(ports["values"]), width=None if None in widths else sum(widths))


def _all_rows(_: None, ports: Mapping[str, Any]) -> Any:
    """Rows of several: their texts are several too, so the positions stand on none.

    Raises:
        UserError: sequences of several parts of other lengths.
    """
    values = ports["values"]
    combined = merged(values)
    rows = RowSpace(" & ".join(str(value.rows) for value in values))
    if not isinstance(combined, SequenceType):
        return replace(combined, rows=rows)
    alike = all(value.count.may_be(combined.count) for value in values)
    if not alike and any(len(value.parts) > 1 for value in values):
        raise UserError("sequences of several parts are padded to the longest where their parts are equally long")
    known = alike and not combined.count.follows
    parts = tuple(replace(part, text=None, length=part.length if known else None) for part in combined.parts)
    return replace(combined, rows=rows, parts=parts)


@function("add")
def add(values: list[Values]) -> Annotated[AnyValue, Like("values")]:
    """The sum of several values of one shape: vectors, scores, or sequences, with the parts and padding of the first.

    Raises:
        UserError: a batch holds values of other shapes.
    """
    several = as_list(values)
    total: AnyValue = _with(several, sum(_tensors(several)))
    return total


@function("average", rows="batch")
def average(
    values: list[Values], owner: Annotated[Index, "rows"] | None = None
) -> Annotated[AnyValue, Like("values", rows="owner")]:
    """The mean of several values of one shape: vectors, scores (an ensemble's), or sequences.

    Sequences stay Sequences, with the parts and padding of the first. With `owner` the mean over the rows of each
    owner: one row for each line of a table (`classes.owner`), whose texts are the templates of one class.

    Raises:
        UserError: a batch holds values of other shapes.
    """
    several = as_list(values)
    mean: AnyValue = _with(several, sum(_tensors(several)) / len(several))
    if owner is None:
        return mean
    assert isinstance(mean, Embedding), "the checker lets vectors alone have an owner"
    return _of_owners(mean, owner.rows)


@function("concat", output=_all_channels)
def concat(values: list[Channels]) -> Embedding | Sequence:
    """The channels of several values side by side, `[..., sum of widths]`; sequences have equally many positions.

    Raises:
        UserError: a batch holds sequences of other lengths.
    """
    several = as_list(values)
    joined: Embedding | Sequence = _with(several, torch.cat(_tensors(several, but_last=True), -1))
    return joined


@function("rows", rows="batch", output=_all_rows)
def rows(values: list[Rows]) -> Embedding | Sequence:
    """The rows of several values, one after the other; shorter Sequences are padded to the longest.

    The positions stand on no text any more.
    """
    several = as_list(values)
    if isinstance(several[0], Embedding):
        return Embedding(torch.cat([value.features for value in several]))
    return _stacked(several)


def _of_owners(x: Embedding | Sequence, owner: Tensor) -> Embedding:
    meta = owner.device.type == "meta"  # no number is known: every row its own owner, the most there can be
    owners = len(owner) if meta else int(owner.max()) + 1
    total = x.features.new_zeros(owners, x.features.shape[1]).index_add(0, owner, x.features)
    counts = total.new_zeros(owners).index_add(0, owner, total.new_ones(len(owner))).clamp(min=1)
    return Embedding(total / counts[:, None])


def _tensors(values: list[Any], *, but_last: bool = False) -> list[Tensor]:
    """Return the values' tensors, of one shape (`but_last`: the last dimension may differ); nothing is broadcast."""
    tensors = [value.scores if isinstance(value, Similarity | Logits) else value.features for value in values]
    shapes = [tuple(tensor.shape[: tensor.ndim - but_last]) for tensor in tensors]
    if len(set(shapes)) > 1:
        raise UserError(f"values of one shape are wanted, and these are {' and '.join(map(str, shapes))}")
    return tensors


def _with(values: list[Any], tensor: Tensor | Any) -> Any:
    """The first value with other numbers."""
    name = "scores" if isinstance(values[0], Similarity | Logits) else "features"
    return replace(values[0], **{name: tensor})


def _stacked(values: list[Any]) -> Sequence:
    longest = max(values, key=lambda value: value.features.shape[1])
    tokens = longest.features.shape[1]
    features = [torch.nn.functional.pad(v.features, (0, 0, 0, tokens - v.features.shape[1])) for v in values]
    masks = []
    for value in values:
        known = value.valid
        if known is None:
            known = torch.ones(value.features.shape[:2], dtype=torch.bool, device=value.features.device)
        masks.append(torch.nn.functional.pad(known, (0, tokens - known.shape[1]), value=False))
    whole = all(v.valid is None and v.features.shape[1] == tokens for v in values)
    parts = tuple(replace(part, text=None) for part in longest.parts)
    return Sequence(torch.cat(features), parts, None if whole else torch.cat(masks))
