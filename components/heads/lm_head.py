"""Logits over the vocabulary at every word, or at chosen ones."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor

from compose_vlp.components.layers.vocabulary import HEAD_PARTS, VocabularyHead
from compose_vlp.registry import EACH, OnText, Settings, component, inferred
from compose_vlp.values import Logits, Sequence


@component("lm_head", rows="independent", state="none", draws="none", selects=True, chunks=True)
class LMHead(VocabularyHead):
    """Scores of every word of the vocabulary: the features times a table of words, which may be the input's own.

    With `transform` the features go through a dense layer, GELU and LayerNorm first, as in BERT (Devlin et al. 2019).
    """

    class Config(Settings):
        transform: bool = Field(False, description="dense layer, GELU and LayerNorm before the table")
        bias: bool = Field(False, description="has every word a bias?")
        norm_eps: float = Field(1e-12, gt=0, description="added to the variance in the transform's LayerNorm")
        width: int = inferred(description="features of a position")
        vocab_size: int = inferred("x.vocab_size", description="words of the text that the positions stand on")

    parts: Mapping[str, str] = HEAD_PARTS

    def __init__(self, config: Config) -> None:
        norm_eps = config.norm_eps if config.transform else None
        super().__init__(config.width, config.vocab_size, bias=config.bias, norm_eps=norm_eps)

    def forward(
        self, x: Annotated[Sequence, "rows tokens width", EACH], *, at: Tensor | None = None, scored: bool = True
    ) -> Annotated[Logits, "rows tokens vocab_size", OnText(required=True)]:
        """`[batch, tokens, width]` to `[batch, length, vocab_size]`, `length` being that of the text.

        With `at` `[chosen]`, places in the flattened `[batch * length]`, only these: `[chosen, vocab_size]`. What
        is not `scored` leaves the product with the table to who reads it.
        """
        return self.score(x, at, scored)
