"""`attend` as an attention implementation of the transformers library, under the name `compose_vlp`."""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from compose_vlp.components.attention.attend import attend

NAME: Final = "compose_vlp"

BEYOND: Final = ("softcap", "s_aux")
"""Arguments of the library's attention that no backend of `attend` can express."""


@cache
def register() -> str:
    """Make the implementation known to transformers (which this imports); gives the name to ask for."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)
    return NAME


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """`[batch, heads, n, width]` to `[batch, n, heads, width]`, with the meaning of the library's `sdpa`.

    Raises:
        NotImplementedError: soft caps on scores, and attention sinks.
    """
    beyond = [name for name in BEYOND if others.get(name) is not None]
    if beyond:
        raise NotImplementedError(f"attend has no {beyond[0]}")
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if scaling is not None:
        query = query * (scaling * query.shape[-1] ** 0.5)
    asked = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(asked) and attention_mask is None and query.shape[2] > 1
    valid, bias = _padding(attention_mask), None
    if valid is None:
        bias = attention_mask
    if position_bias is not None:
        bias = position_bias if bias is None else _both(position_bias, bias)
    queries, keys, values = (x.transpose(1, 2) for x in (query, key, value))
    return attend(queries, keys, values, valid=valid, causal=causal, bias=bias, dropout=dropout), None


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    **others: Any,
) -> Tensor | None:
    """The library's boolean mask `[batch, 1, queries, keys]`, or less where that says the same.

    Padding comes last in our texts, so causality alone (None) hides it from every word; in a bidirectional model it is
    `[batch, 1, 1, keys]`. Neither needs a look at the mask, for which the host would wait for the device.
    """
    from transformers import masking_utils

    causal = mask_function in (None, masking_utils.causal_mask_function)
    if causal and q_length == kv_length and q_offset == kv_offset == 0 and others.get("allow_is_causal_skip", True):
        return None
    if mask_function is masking_utils.bidirectional_mask_function and attention_mask is not None:
        return attention_mask[:, None, None, kv_offset : kv_offset + kv_length]
    mask_function = mask_function or masking_utils.causal_mask_function
    whole: Tensor | None = masking_utils.sdpa_mask(
        batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, **others
    )
    return whole


def _padding(attention_mask: Tensor | None) -> Tensor | None:
    """`[batch, keys]` of a mask that is the same for all queries and heads."""
    if attention_mask is None or attention_mask.dtype != torch.bool or attention_mask.shape[1:3] != (1, 1):
        return None
    return attention_mask[:, 0, 0]


def _both(position_bias: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return position_bias.masked_fill(~mask, -torch.inf)
    return position_bias + mask
