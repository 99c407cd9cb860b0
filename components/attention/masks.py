"""Which query may see which key: padding, causality and a bias in one boolean tensor."""

import torch
from jaxtyping import Bool
from torch import Tensor


def causal_mask(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "queries keys"]:
    """True where key j <= i + (keys - queries): the last query sees everything, each one before it one key less."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def may_see(
    queries: int,
    keys: int,
    valid: Bool[Tensor, "batch keys"] | None,
    causal: bool,
    bias: Tensor | None,
    device: torch.device,
) -> Bool[Tensor, "..."] | None:
    """True where a query may see a key, broadcastable to `[batch, heads, queries, keys]`; None where all see all.

    A key that a floating bias puts at minus infinity is unseen, like one that a boolean bias hides.
    """
    seen: Tensor | None = None if valid is None else valid[:, None, None, :]
    if causal and queries > 1:  # a single query is the last one
        triangle = causal_mask(queries, keys, device)
        seen = triangle if seen is None else seen & triangle
    if bias is not None:
        open_to = bias if bias.dtype == torch.bool else bias > -torch.inf
        seen = open_to if seen is None else seen & open_to
    return seen
