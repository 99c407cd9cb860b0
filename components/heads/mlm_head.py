"""Logits over the vocabulary, as BERT makes them."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor

from compose_vlp.components.layers.vocabulary import HEAD_PARTS, VocabularyHead
from compose_vlp.registry import EACH, OnText, Settings, component, inferred
from compose_vlp.values import Logits, Sequence


@component("mlm_head", rows="independent", state="none", draws="none", selects=True, chunks=True)
class MLMHead(VocabularyHead):
    """BERT's head for hidden words (Devlin et al. 2019): a dense layer, GELU and LayerNorm, then the table of words and
    a bias for each.

    The table is the embedding's own where `share: {weight: text.embedding}` says so, as in BERT and ALBEF.
    """

    class Config(Settings):
        norm_eps: float = Field(1e-12, gt=0, description="added to the variance in the LayerNorm")
        width: int = inferred(description="features of a position")
        vocab_size: int = inferred("x.vocab_size", description="words of the text that the positions stand on")

    parts: Mapping[str, str] = HEAD_PARTS

    def __init__(self, config: Config) -> None:
        super().__init__(config.width, config.vocab_size, bias=True, norm_eps=config.norm_eps)

    def forward(
        self, x: Annotated[Sequence, "rows tokens width", EACH], *, at: Tensor | None = None, scored: bool = True
    ) -> Annotated[Logits, "rows tokens vocab_size", OnText(required=True)]:
        """`[batch, tokens, width]` to `[batch, length, vocab_size]`, `length` being that of the text.

        With `at` `[chosen]`, places in the flattened `[batch * length]`, only these: `[chosen, vocab_size]`. What
        is not `scored` leaves the product with the table to who reads it.
        """
        return self.score(x, at, scored)
