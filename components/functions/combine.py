"""Several values made one: their sum, their mean, their channels or their rows side by side."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor

from compose_vlp.components.layers.several import as_list
from compose_vlp.errors import UserError
from compose_vlp.graph.types import Part as PartType
from compose_vlp.graph.types import RowSpace, SequenceType, merge_reads
from compose_vlp.registry import EACH, function
from compose_vlp.values import Embedding, Index, Sequence

Features = Annotated[Embedding, "rows width", EACH] | Annotated[Sequence, "rows tokens width", EACH]
Channels = Annotated[Embedding, "rows channels", EACH] | Annotated[Sequence, "rows tokens channels", EACH]
Rows = Annotated[Embedding, "any_rows width", EACH] | Annotated[Sequence, "any_rows tokens width", EACH]


def _alike(ports: Mapping[str, Any]) -> tuple[Any, ...]:
    values: tuple[Any, ...] = ports["values"]
    kinds = {value.kind for value in values}
    if len(kinds) > 1:
        raise UserError(f"takes values of one kind; these are {' and '.join(sorted(kinds))}")
    return values


def _merged(ports: Mapping[str, Any], width: int | None) -> Any:
    """The type of the first value, reached by what reaches any of them, position by position."""
    values = _alike(ports)
    reads = merge_reads(*(value.reads for value in values))
    one = values[0]
    if not isinstance(one, SequenceType):
        return replace(one, reads=reads, width=width)
    parts = tuple(
        replace(part, reads=merge_reads(part.reads, *(_part_reads(value, i) for value in values[1:])))
        for i, part in enumerate(one.parts)
    )
    return replace(one, reads=reads, width=width, parts=parts)


def _part_reads(value: SequenceType, index: int) -> Mapping[str, Any]:
    part: PartType | None = value.parts[index] if index < len(value.parts) else None
    return value.reads if part is None else part.reads


def _same_width(_: None, ports: Mapping[str, Any]) -> Any:
    return _merged(ports, ports["values"][0].width)


def _averaged(_: None, ports: Mapping[str, Any]) -> Any:
    owner = ports.get("owner")
    one = _same_width(None, ports)
    if owner is None:
        return one
    if isinstance(one, SequenceType):
        raise UserError("only vectors are averaged by their owner", hints=["`mean(x)` makes one of a sequence"])
    return replace(one, rows=owner.points_at)


def _all_channels(_: None, ports: Mapping[str, Any]) -> Any:
    widths = [value.width for value in ports["values"]]
    return _merged(ports, None if None in widths else sum(widths))


def _all_rows(_: None, ports: Mapping[str, Any]) -> Any:
    one = _same_width(None, ports)
    return replace(one, rows=RowSpace(" & ".join(str(value.rows) for value in ports["values"])))


@function("add", output=_same_width)
def add(values: list[Features]) -> Embedding | Sequence:
    """The sum of several values of one shape; Sequences stay Sequences, with the parts and padding of the first."""
    several = as_list(values)
    return _with(several, sum(value.features for value in several))


@function("average", rows="batch", output=_averaged)
def average(values: list[Features], owner: Annotated[Index, "rows"] | None = None) -> Embedding | Sequence:
    """The mean of several values of one shape; Sequences stay Sequences, with the parts and padding of the first.

    With `owner` the mean over the rows of each owner: one row for each line of a table (`classes.owner`), whose texts
    are the templates of one class.
    """
    several = as_list(values)
    mean = _with(several, sum(value.features for value in several) / len(several))
    return mean if owner is None else _of_owners(mean, owner.rows)


@function("concat", output=_all_channels)
def concat(values: list[Channels]) -> Embedding | Sequence:
    """The channels of several values side by side, `[..., sum of widths]`."""
    several = as_list(values)
    return _with(several, torch.cat([value.features for value in several], -1))


@function("rows", rows="batch", output=_all_rows)
def rows(values: list[Rows]) -> Embedding | Sequence:
    """The rows of several values, one after the other; shorter Sequences are padded to the longest."""
    several = as_list(values)
    if isinstance(several[0], Embedding):
        return Embedding(torch.cat([value.features for value in several]))
    return _stacked(several)


def _of_owners(x: Embedding | Sequence, owner: Tensor) -> Embedding:
    owners = int(owner.max()) + 1
    total = x.features.new_zeros(owners, x.features.shape[1]).index_add(0, owner, x.features)
    counts = torch.bincount(owner, minlength=owners).clamp(min=1)
    return Embedding(total / counts[:, None])


def _with(values: list[Any], features: Tensor) -> Embedding | Sequence:
    one: Embedding | Sequence = replace(values[0], features=features)
    return one


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
    return Sequence(torch.cat(features), longest.parts, None if whole else torch.cat(masks))
