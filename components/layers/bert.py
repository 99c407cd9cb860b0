"""What BERT's towers have in common (Devlin et al. 2019): settings, the embedding of words, how weights are drawn."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import CrossAttention, MergedCrossAttention
from compose_vlp.components.layers.transformer import Layer, Stack, TowerSettings
from compose_vlp.registry import inferred
from compose_vlp.values.tables import TextTable

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


class BertSettings(TowerSettings):
    """The settings of every tower of BERT's layers."""

    norm_eps: float = Field(1e-12, gt=0, description="added to the variance in every norm")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the embeddings and of every branch, in training")
    attention_dropout: float = Field(0.1, ge=0, lt=1, description="of the weights of attention, in training")
    init_std: float = Field(
        BERT_STD, gt=0, description="of the weights that are drawn; a narrow model learns faster from a larger one"
    )


class BertTextSettings(BertSettings):
    """The settings of every such tower over words."""

    token_types: bool = Field(True, description="is BERT's vector of the first text added to every word?")
    vocab_size: int = inferred(description="rows of the token table")
    length: int = inferred(description="positions: the longest text's frame, or more")
    context_width: int | None = inferred(description="features of the context; no cross-attention without one")


class BertText(nn.Module):
    """A tower over words: their embedding and layers; what `bert_encoder` and `text_decoder` have in common.

    Words, places and (with `token_types`) the first type are summed and normed. Of BERT's two vectors of types, which
    tell a first text from a second, only the first is ever added.
    """

    def __init__(self, config: BertTextSettings, width: int, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Parameter(torch.empty(config.length, width)) if config.has_table else None
        self.token_types = nn.Parameter(torch.empty(2, width)) if config.token_types else None
        self.embedding_norm = config.make_norm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = Stack(layers)
        draw_like_bert(self, config.init_std)

    @staticmethod
    def tables(_: object) -> Mapping[str, TextTable]:
        return {"positions": TextTable()}

    def embed(self, ids: Int[Tensor, "batch length"], start: int = 0) -> Float[Tensor, "batch length width"]:
        """`[batch, length]` ids, before which `start` others came, to `[batch, length, width]`."""
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions[start : start + ids.shape[1]]
        if self.token_types is not None:
            x = x + self.token_types[0]
        embedded: Tensor = self.dropout(self.embedding_norm(x))
        return embedded


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
            for vectors in (part.positions, part.token_types):
                if vectors is not None:
                    nn.init.normal_(vectors, std=std)
