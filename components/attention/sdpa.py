"""Attention through `torch.nn.functional.scaled_dot_product_attention`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from compose_vlp.components.attention.masks import may_see


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
    """The same as `eager.attend`; no mask is made where nothing is hidden, or only what comes later."""
    n, m = queries.shape[1], keys.shape[1]
    square = causal and n == m and valid is None and bias is None
    mask = None if square else _mask(n, m, valid, causal, bias, queries)
    q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=square).transpose(1, 2)


def _mask(
    n: int, m: int, valid: Tensor | None, causal: bool, bias: Tensor | None, queries: Tensor
) -> Bool[Tensor, "..."] | Float[Tensor, "..."] | None:
    """A boolean mask, or a floating one where a floating bias has to be added; [batch or 1, heads or 1, n or 1, m]."""
    if bias is not None and bias.dtype != torch.bool:
        hidden = may_see(n, m, valid, causal, None, queries.device)
        mask = bias.to(queries.dtype)
        mask = mask if hidden is None else mask.masked_fill(~hidden, -torch.inf)
    else:
        seen = may_see(n, m, valid, causal, bias, queries.device)
        if seen is None:
            return None
        mask = seen
    return mask[(None,) * (4 - mask.ndim)]
