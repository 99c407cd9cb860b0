"""Sequences put one after the other, each under a name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch

from compose_vlp.errors import UserError
from compose_vlp.graph.types import SequenceType, merge_reads
from compose_vlp.registry import EACH, function
from compose_vlp.values import Sequence


def _joined(_: None, ports: Mapping[str, Any]) -> SequenceType:
    parts = []
    for name, value in ports.items():
        if len(value.parts) != 1:
            inside = ", ".join(part.name for part in value.parts)
            raise UserError(f"`{name}` is joined already, of {inside}", hints=["join all the parts in one call"])
        parts.append(replace(value.parts[0], name=name))
    first = next(iter(ports.values()))
    return SequenceType(
        first.rows, merge_reads(*(v.reads for v in ports.values())), width=first.width, parts=tuple(parts)
    )


@function("join", output=_joined)
def join(**values: Annotated[Sequence, "rows any_tokens width", EACH]) -> Annotated[Sequence, "rows tokens width"]:
    """The tokens of several sequences, `[batch, sum of tokens, width]`; each stays reachable as a part of its name.

    The CLS of the whole is that of the first.
    """
    parts, start = [], 0
    for name, value in values.items():
        length = value.features.shape[1]
        parts.append(replace(value.parts[0], name=name, start=start, length=length))
        start += length
    features = torch.cat([value.features for value in values.values()], 1)
    if all(value.valid is None for value in values.values()):
        return Sequence(features, tuple(parts))
    masks = [_mask(value) for value in values.values()]
    return Sequence(features, tuple(parts), torch.cat(masks, 1))


def _mask(value: Sequence) -> torch.Tensor:
    if value.valid is not None:
        return value.valid
    return torch.ones(value.features.shape[:2], dtype=torch.bool, device=value.features.device)
