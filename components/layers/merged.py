"""Attention of a sequence to several contexts at once."""

from collections.abc import Sequence as List

import torch
from jaxtyping import Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import CrossAttention, View
from compose_vlp.components.layers.linear import Linear
from compose_vlp.components.layers.scope import Scope
from compose_vlp.values.cache import KeysValues


class MergedCrossAttention(nn.Module):
    """A cross-attention for each context; what they give is averaged, or made one by a map of all of them.

    BLIP's NLVR2 (Li et al. 2022, figure 5 c) has two, which average in lower layers and are mapped in upper ones.
    `[batch, n, width]` and contexts `[batch, m, context_width]` to `[batch, n, width]`.
    """

    def __init__(
        self, width: int, heads: int, context_width: int, contexts: int, *, mapped: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            CrossAttention(width, heads, context_width, dropout=dropout) for _ in range(contexts)
        )
        self.merge = Linear(contexts * width, width) if mapped else None

    def keys_values(self, context: Float[Tensor, "contexts m context_width"], which: int) -> KeysValues:
        """Keys and values of the context that stands at place `which`, each `[contexts, m, heads, head_width]`."""
        attention = self.attentions[which]
        assert isinstance(attention, CrossAttention)
        return attention.keys_values(context)

    def forward(
        self, x: Float[Tensor, "batch n width"], scope: Scope, views: List[View]
    ) -> Float[Tensor, "batch n width"]:
        """Attend to all contexts, one view each."""
        looked = [attention(x, scope, view) for attention, view in zip(self.attentions, views, strict=True)]
        if self.merge is None:
            return torch.stack(looked).mean(0)
        merged: Tensor = self.merge(torch.cat(looked, -1))
        return merged
