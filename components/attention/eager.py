"""Attention as the paper writes it: the readable reference that the other backends are tested against."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from compose_vlp.components.attention.masks import may_see
from compose_vlp.components.attention.watch import note


def attend(
    queries: Float[Tensor, "batch n heads width"],
    keys: Float[Tensor, "batch m heads width"],
    values: Float[Tensor, "batch m heads value_width"],
    *,
    valid: Bool[Tensor, "batch m"] | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch n heads value_width"]:
    """softmax(Q K^T / sqrt(width) + bias) V (Vaswani et al. 2017, eq. 1); see `attend.attend` for the arguments."""
    scores = torch.einsum("bnhd,bmhd->bhnm", queries * queries.shape[-1] ** -0.5, keys)
    if bias is not None and bias.dtype != torch.bool:
        scores = scores + bias
    seen = may_see(queries.shape[1], keys.shape[1], valid, causal, bias, queries.device)
    if seen is None:
        weights = scores.softmax(-1)
    else:
        # The least finite number instead of -inf keeps a row that sees nothing (and its gradient) free of NaN; the
        # second fill makes its weights zero.
        scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1).masked_fill(~seen, 0.0)
    note(weights)
    weights = functional.dropout(weights, dropout)
    return torch.einsum("bhnm,bmhd->bnhd", weights.to(values.dtype), values)
