"""Other people's modules with their attention taken through `attend`, without touching them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from compose_vlp.components.attention.attend import attend


class ThroughAttend(TorchFunctionMode):
    """Within this context, calls of `scaled_dot_product_attention` that `attend` can express go through it.

    It can where queries, keys and values are `[batch, heads, n, width]` with equal batch and heads. What runs inside
    `attend` is not caught again.
    """

    def __torch_function__(
        self, func: Callable[..., Any], _types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The arguments as torch defines them; a square mask only, since torch counts causality from the first key on."""
    expressible = query.ndim == key.ndim == value.ndim == 4 and query.shape[:2] == key.shape[:2] == value.shape[:2]
    if not expressible or (is_causal and query.shape[2] != key.shape[2]):
        return scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if scale is not None:
        query = query * (scale * query.shape[-1] ** 0.5)
    queries, keys, values = (x.transpose(1, 2) for x in (query, key, value))
    return attend(queries, keys, values, bias=attn_mask, causal=is_causal, dropout=dropout_p).transpose(1, 2)
