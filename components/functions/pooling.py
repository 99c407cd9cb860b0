"""From a sequence to one vector, without weights."""

from typing import Annotated

import torch

from compose_vlp.registry import ALL, function
from compose_vlp.values import Embedding, Sequence


@function("first")
def first(x: Annotated[Sequence, "rows tokens width", ALL]) -> Annotated[Embedding, "rows width"]:
    """The features of the first position, `[batch, width]`."""
    return Embedding(x.features[:, 0])


@function("last")
def last(x: Annotated[Sequence, "rows tokens width", ALL]) -> Annotated[Embedding, "rows width"]:
    """The features of the last position that is not padding, `[batch, width]`: CLIP's end token."""
    if x.valid is None:
        return Embedding(x.features[:, -1])
    places = torch.arange(x.valid.shape[1], device=x.valid.device)
    ends = (x.valid * places).argmax(1)
    return Embedding(x.features[torch.arange(ends.shape[0], device=ends.device), ends])


@function("mean")
def mean(x: Annotated[Sequence, "rows tokens width", ALL]) -> Annotated[Embedding, "rows width"]:
    """The mean over all positions that are not padding, `[batch, width]` (`mean(x.tokens)`: without the CLS)."""
    if x.valid is None:
        return Embedding(x.features.mean(1))
    weights = x.valid.to(x.features.dtype)
    total = (x.features * weights[..., None]).sum(1)
    return Embedding(total / weights.sum(1, keepdim=True).clamp(min=1))
