"""One layer of a transformer, put together from branches."""

from collections.abc import Sequence as List

from jaxtyping import Bool, Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import CrossAttention, Grow, Once
from compose_vlp.components.layers.merged import MergedCrossAttention
from compose_vlp.components.layers.residual import Residual
from compose_vlp.values.cache import KeysValues

Look = Tensor | KeysValues
"""A context `[batch, k, context_width]`, or its keys and values."""


class Layer(nn.Module):
    """Self-attention, then cross-attention where there is one, then the FFN; `[batch, n, width]` all along.

    `self_ffn` is a second FFN, between the two attentions (open_clip's CoCa).
    """

    def __init__(
        self,
        self_attention: Residual,
        ffn: Residual,
        cross_attention: Residual | None = None,
        self_ffn: Residual | None = None,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.self_ffn = self_ffn
        self.cross_attention = cross_attention
        self.ffn = ffn

    @property
    def merges(self) -> bool:
        """Does its cross-attention look at several contexts at once?"""
        return self.cross_attention is not None and isinstance(self.cross_attention.branch, MergedCrossAttention)

    def keys_values(self, context: Float[Tensor, "contexts m context_width"], which: int = 0) -> KeysValues:
        """What `forward` takes as `context` too: its keys and values for this layer, where it is context `which`.

        Raises:
            ValueError: the layer has no cross-attention.
        """
        branch = None if self.cross_attention is None else self.cross_attention.branch
        if isinstance(branch, MergedCrossAttention):
            return branch.keys_values(context, which)
        if not isinstance(branch, CrossAttention):
            raise ValueError("a layer without cross-attention takes no context")
        return branch.keys_values(context)

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        *,
        valid: Bool[Tensor, "batch m"] | None = None,
        causal: bool = False,
        grow: Grow | None = None,
        context: Look | List[Look] | None = None,
        context_valid: Bool[Tensor, "batch k"] | List[Tensor | None] | None = None,
        once: Once | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """`valid` and `grow` are those of self-attention; `context` and what follows those of cross-attention.

        A layer that merges takes lists of contexts and of their masks.
        """
        x = self.self_attention(x, valid=valid, causal=causal, grow=grow)
        if self.self_ffn is not None:
            x = self.self_ffn(x)
        if self.cross_attention is not None and context is not None:
            x = self.cross_attention(x, context, valid=context_valid, once=once)
        total: Tensor = self.ffn(x)
        return total
