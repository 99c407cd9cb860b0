"""What BERT's towers are made of (Devlin et al. 2019): the embedding of words, and post-norm layers."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from compose_vlp.components.layers.attention import CrossAttention, SelfAttention
from compose_vlp.components.layers.merged import MergedCrossAttention
from compose_vlp.components.layers.mlp import MLP, Activation
from compose_vlp.components.layers.residual import Residual
from compose_vlp.components.layers.stack import Stack
from compose_vlp.components.layers.tables import TextTable
from compose_vlp.components.layers.transformer import Layer

Pairing = Literal["alternate", "merge"]
"""How several contexts are looked at: layer after layer, one each; or by every layer, all of them at once."""

TEXT_PARTS: Final[Mapping[str, str]] = {
    "embedding": "embedding.weight",
    "positions": "positions",
    "self_attention": "layers.*.self_attention",
    "cross_attention": "layers.*.cross_attention",
    "ffn": "layers.*.ffn",
}
"""What the text towers share with each other."""

BERT_STD: Final = 0.02
"""Standard deviation of the weights that BERT begins with, at widths of 768 and 1024."""


class BertText(nn.Module):
    """A tower over words: their embedding and layers; what `bert_encoder` and `text_decoder` have in common.

    Words, places and (with `token_types`) the first type are summed and normed. Of BERT's two vectors of types, which
    tell a first text from a second, only the first is ever added.
    """

    def __init__(
        self,
        vocab_size: int,
        length: int,
        width: int,
        layers: Iterable[Layer],
        *,
        token_types: bool,
        norm_eps: float,
        dropout: float,
        init_std: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.token_types = nn.Parameter(torch.empty(2, width)) if token_types else None
        self.embedding_norm = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.layers = Stack(layers)
        draw_like_bert(self, init_std)

    @staticmethod
    def tables(_: object) -> Mapping[str, TextTable]:
        return {"positions": TextTable()}

    def embed(self, ids: Int[Tensor, "batch length"], start: int = 0) -> Float[Tensor, "batch length width"]:
        """`[batch, length]` ids, before which `start` others came, to `[batch, length, width]`."""
        x = self.embedding(ids) + self.positions[start : start + ids.shape[1]]
        if self.token_types is not None:
            x = x + self.token_types[0]
        embedded: Tensor = self.dropout(self.embedding_norm(x))
        return embedded


def bert_layer(
    width: int,
    heads: int,
    mlp_width: int | None,
    *,
    activation: Activation,
    norm_eps: float,
    dropout: float,
    attention_dropout: float,
    across: nn.Module | None = None,
) -> Layer:
    """Self-attention, the cross-attention `across` where there is one, and the FFN, a LayerNorm after each sum.

    `mlp_width` is four widths where it is None; `dropout` is that of every branch.
    """

    def branch(module: nn.Module) -> Residual:
        return Residual(module, nn.LayerNorm(width, eps=norm_eps), placement="post", dropout=dropout)

    return Layer(
        branch(SelfAttention(width, heads, dropout=attention_dropout)),
        branch(MLP(width, mlp_width or 4 * width, activation=activation)),
        None if across is None else branch(across),
    )


def cross_attention(
    width: int, heads: int, context_width: int, *, contexts: int = 1, mapped: bool = False, dropout: float = 0.0
) -> nn.Module:
    """Cross-attention to one context, or to several at once; `mapped` as in `MergedCrossAttention`."""
    if contexts == 1:
        return CrossAttention(width, heads, context_width, dropout=dropout)
    return MergedCrossAttention(width, heads, context_width, contexts, mapped=mapped, dropout=dropout)


def draw_like_bert(module: nn.Module, std: float) -> None:
    """Every weight and table from N(0, std), every bias 0, as BERT draws them with 0.02; norms stay as they are."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, BertText):
            nn.init.normal_(part.positions, std=std)
            if part.token_types is not None:
                nn.init.normal_(part.token_types, std=std)
