"""Hidden words, as BERT hides them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compose_vlp.errors import UserError
from compose_vlp.graph.types import LabelsType, RecordType
from compose_vlp.registry import EACH, Settings, component
from compose_vlp.values import Labels, Text

IGNORED = -100
CONTINUES = "##"
"""How the pieces of a word but its first begin in the vocabularies of BERT's tokenizers."""


class Masked(NamedTuple):
    """`text`: the text with hidden words; `labels`: the words that were hidden, at their places."""

    text: Annotated[Text, "rows length vocab_size"]
    labels: Annotated[Labels, "rows length"]


@component("mlm_masker", rows="independent", state="none", draws="choice", cuts=True)
class MlmMasker(nn.Module):
    """Chooses words to be foretold, and hides most of them (BERT, Devlin et al. 2019, section 3.1).

    Each word is chosen by itself, so a text may have none. Begin, end, padding, mask and extra tokens never are. The
    random words that some are replaced with come from the whole vocabulary, as in ALBEF's code.
    """

    class Config(Settings):
        probability: float = Field(0.15, gt=0, le=1, description="share of the words that are chosen")
        mask: float = Field(0.8, ge=0, le=1, description="share of the chosen ones that become the mask token")
        random: float | None = Field(
            None, ge=0, le=1, description="share that becomes a random word; half of what `mask` leaves, if left out"
        )
        whole_words: bool = Field(
            False, description="choose words whole, not the pieces they are cut into (WordPiece vocabularies)"
        )

        @model_validator(mode="after")
        def _shares(self) -> "MlmMasker.Config":
            if self.random is not None and self.mask + self.random > 1:
                raise ValueError("mask and random are shares of the chosen words: together at most 1")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, text: Annotated[Text, "rows length vocab_size", EACH], *, tokenizer: Any) -> Masked:
        """Ids `[batch, length]`; labels `[batch, length]` hold the chosen words, -100 elsewhere.

        Raises:
            UserError: the tokenizer has no mask token, or no whole words.
        """
        if text.ids.device.type == "meta":  # no word is known, and no tokenizer learnt
            return Masked(text, Labels(text.ids))
        if tokenizer.mask_id is None:
            raise UserError("this tokenizer has no mask token", hints=["`mask:` names one of its tokens"])
        special = torch.tensor(sorted(tokenizer.special.values()), device=text.ids.device)
        words = text.valid & ~torch.isin(text.ids, special)
        chosen = self._choose(text.ids, words, tokenizer)
        fate = torch.rand(text.ids.shape, device=text.ids.device)
        c = self.config
        random = (1 - c.mask) / 2 if c.random is None else c.random
        drawn = torch.randint(tokenizer.vocab_size, text.ids.shape, device=text.ids.device)
        ids = text.ids.masked_fill(chosen & (fate < c.mask), tokenizer.mask_id)
        ids = torch.where(chosen & (fate >= c.mask) & (fate < c.mask + random), drawn, ids)
        return Masked(replace(text, ids=ids), Labels(text.ids.masked_fill(~chosen, IGNORED)))

    def _choose(self, ids: Tensor, words: Tensor, tokenizer: Any) -> Tensor:
        drawn = torch.rand(ids.shape, device=ids.device)
        if self.config.whole_words:
            pieces = [number for token, number in tokenizer.vocabulary().items() if token.startswith(CONTINUES)]
            if not pieces:
                raise UserError(
                    "`whole_words` needs a vocabulary that marks the pieces of a word with `##`",
                    hints=["`use: wordpiece`", "whole_words: false"],
                )
            starts = ~(torch.isin(ids, torch.tensor(pieces, device=ids.device)) & words)
            word = starts.cumsum(1) - 1
            drawn = drawn.gather(1, word.clamp(min=0))  # a word's pieces share one draw
        return words & (drawn < self.config.probability)

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> RecordType:  # noqa: ARG004
        text = ports["text"]
        return RecordType(text.rows, fields={"text": text, "labels": LabelsType(text.rows, text=text)})
