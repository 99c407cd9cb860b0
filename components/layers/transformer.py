"""One layer of a transformer, and the one place where the towers' layers are put together from their settings."""

from collections.abc import Sequence as List

from jaxtyping import Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import CrossAttention, SelfAttention, View
from compose_vlp.components.layers.merged import MergedCrossAttention
from compose_vlp.components.layers.residual import Placement, Residual
from compose_vlp.components.layers.scope import Scope
from compose_vlp.components.layers.settings import TowerSettings
from compose_vlp.values.cache import KeysValues


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
        self, x: Float[Tensor, "batch n width"], scope: Scope, view: View | List[View] | None = None
    ) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`, and to the context of `view`; a layer that merges takes a list of views."""
        x = self.self_attention(x, scope)
        if self.self_ffn is not None:
            x = self.self_ffn(x)
        if self.cross_attention is not None and view is not None:
            x = self.cross_attention(x, scope, view)
        total: Tensor = self.ffn(x)
        return total


def build_layer(
    settings: TowerSettings,
    width: int,
    heads: int,
    *,
    placement: Placement,
    cross_attention: nn.Module | None = None,
    ffn_between: bool = False,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.0,
    std: float | None = None,
) -> Layer:
    """One layer of a tower, its FFN and norms those of the settings.

    The norms stand before each branch (`pre`, as in ViT and GPT) or after each sum (`post`, as in BERT).
    `cross_attention` stands between self-attention and FFN, with a second FFN before it where `ffn_between`. `dropout`
    is of every branch, `attention_dropout` of the weights of self-attention, `drop_path` of whole rows; `std` is the
    standard deviation of the weights of each branch's last map.
    """

    def branch(module: nn.Module) -> Residual:
        norm = settings.make_norm(width)
        return Residual(module, norm, placement=placement, dropout=dropout, drop_path=drop_path)

    return Layer(
        branch(
            SelfAttention(
                width,
                heads,
                positions=settings.make_positions(width),
                bias=qkv_bias,
                dropout=attention_dropout,
                std=std,
            )
        ),
        branch(settings.make_ffn(width, std)),
        None if cross_attention is None else branch(cross_attention),
        branch(settings.make_ffn(width, std)) if ffn_between else None,
    )
