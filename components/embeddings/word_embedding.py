"""Words as a sequence of positions."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import has_table
from compose_vlp.registry import EACH, AsPart, Settings, component, inferred
from compose_vlp.slots import Part as SlotPart
from compose_vlp.slots import Place, slot
from compose_vlp.values import Part, Sequence, Text
from compose_vlp.values.tables import TextTable

STD = 0.02


@component("word_embedding", rows="independent", state="none", draws="noise", noise=("dropout",))
class WordEmbedding(nn.Module):
    """A vector for each word, with its position; the first token is the CLS.

    With `embedding_norm` as BERT has it (Devlin et al. 2019): the vector of the first of its two types is added, and
    the sum is normed. `type` adds one vector to all words behind that, as VLMo tells words from pictures (Bao et al.
    2022, 3.1).
    """

    class Config(Settings):
        width: int = Field(768, gt=0, description="features of a position")
        embedding_norm: bool = Field(True, description="BERT's first type, and a norm of the sum?")
        norm: SlotPart = slot("norm", "layer_norm", "the norm of the sum")
        norm_eps: float = Field(1e-12, gt=0, description="added to the variance in the norm")
        positions: SlotPart = slot("positions", "learned", "what tells the words' places; a table if `learned`")
        type: bool = Field(False, description="is a vector of the modality added to every word?")
        zero_padding: bool = Field(False, description="are the vectors of padding 0?")
        dropout: float = Field(0.0, ge=0, lt=1, description="of the words, in training")
        vocab_size: int = inferred(description="rows of the table of words")
        length: int = inferred(description="positions: the longest text's frame, or more")

    parts: Mapping[str, str] = {"embedding": "embedding.weight", "positions": "positions", "type": "modality"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(c.vocab_size, c.width)
        self.positions = nn.Parameter(torch.empty(c.length, c.width)) if has_table(c.positions) else None
        self.token_types = nn.Parameter(torch.empty(2, c.width)) if c.embedding_norm else None
        self.norm = c.norm.make(Place(c.width, eps=c.norm_eps)) if c.embedding_norm else None
        self.modality = nn.Parameter(torch.empty(1, c.width)) if c.type else None
        self.dropout = nn.Dropout(c.dropout)
        for vectors in (self.embedding.weight, self.positions, self.token_types, self.modality):
            if vectors is not None:
                nn.init.normal_(vectors, std=STD)

    def forward(
        self, x: Annotated[Text, "rows length vocab_size", EACH]
    ) -> Annotated[Sequence, "rows length width", AsPart("language", cls="first")]:
        """`[batch, length]` ids to `[batch, length, width]`."""
        words: Tensor = self.embedding(x.ids)
        if self.positions is not None:
            words = words + self.positions[x.offset : x.offset + x.ids.shape[1]]
        if self.token_types is not None:
            words = words + self.token_types[0]
        words = self.dropout(words if self.norm is None else self.norm(words))
        if self.modality is not None:
            words = words + self.modality
        if self.config.zero_padding:
            words = words * x.valid[..., None]
        cls: Literal["first", "none"] = "first" if x.offset == 0 else "none"
        return Sequence(words, (Part("language", 0, x.ids.shape[1], cls, x),), x.valid)

    @staticmethod
    def tables(config: Config) -> Mapping[str, TextTable]:
        return {"positions": TextTable()} if has_table(config.positions) else {}
