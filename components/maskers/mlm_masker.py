"""Hidden words, as BERT hides them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Need
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

    BEiT-3's captions are hidden with `fixed`, `end` and `random_from: 3`: a share of all tokens of a text, its begin
    and end counted, rounded, at least one, drawn without replacement from all but the begin. Where no end is ever
    foretold, no text that is written would end.
    """

    class Config(Settings):
        probability: float = Field(0.15, gt=0, le=1, description="share of the words that are chosen")
        mask: float = Field(0.8, ge=0, le=1, description="share of the chosen ones that become the mask token")
        random: float | None = Field(
            None, ge=0, le=1, description="share that becomes a random word; half of what `mask` leaves, if left out"
        )
        random_from: int = Field(0, ge=0, description="the least id that a random word may have")
        fixed: bool = Field(
            False, description="choose the share of each text's tokens, begin and end counted, and not each by itself"
        )
        end: bool = Field(False, description="may a text's end be chosen like its words?")
        whole_words: bool = Field(
            False, description="choose words whole, not the pieces they are cut into (WordPiece vocabularies)"
        )

        @model_validator(mode="after")
        def _shares(self) -> "MlmMasker.Config":
            if self.random is not None and self.mask + self.random > 1:
                raise ValueError("mask and random are shares of the chosen words: together at most 1")
            return self

        @model_validator(mode="after")
        def _by_token(self) -> "MlmMasker.Config":
            if self.fixed and self.whole_words:
                raise ValueError("`fixed` counts tokens, `whole_words` chooses words: only one of them can be set")
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
        c = self.config
        if c.end and tokenizer.end_id is None:
            raise UserError("this tokenizer has no end token to be hidden", hints=["end: false", "`end:` names one"])
        if c.random_from > tokenizer.highest_id:
            raise UserError(f"`random_from: {c.random_from}` leaves no word: the last is {tokenizer.highest_id}")
        kept = set(tokenizer.special.values()) - ({tokenizer.end_id} if c.end else set())
        words = text.valid & ~_among(text.ids, sorted(kept))
        chosen = self._share(text, words) if c.fixed else self._choose(text.ids, words, tokenizer)
        fate = torch.rand(text.ids.shape, device=text.ids.device)
        random = (1 - c.mask) / 2 if c.random is None else c.random
        drawn = torch.randint(c.random_from, tokenizer.highest_id + 1, text.ids.shape, device=text.ids.device)
        ids = text.ids.masked_fill(chosen & (fate < c.mask), tokenizer.mask_id)
        ids = torch.where(chosen & (fate >= c.mask) & (fate < c.mask + random), drawn, ids)
        return Masked(replace(text, ids=ids), Labels(text.ids.masked_fill(~chosen, IGNORED)))

    def _share(self, text: Text, words: Tensor) -> Tensor:
        """Of a text's tokens `[batch, length]` as many as are its share, rounded, at least one and at most all."""
        tokens = text.lengths.to(words.device)
        number = (tokens * self.config.probability + 0.5).long().clamp(min=1)
        drawn = torch.rand(words.shape, device=words.device).masked_fill(~words, torch.inf)
        rank = drawn.argsort(1).argsort(1)
        return words & (rank < number[:, None])

    @staticmethod
    def needs(config: Config) -> tuple[Need, ...]:
        needs = [Need("mask", " has no mask token", "components.{tokenizer}.mask names one")]
        if config.end:
            hint = "`components.{masker}.end: false`, or texts that end with a token"
            needs.append(Need("end", ": these texts have no end token that `end` could hide", hint))
        if config.whole_words:
            hint = "`use: wordpiece`, or `components.{masker}.whole_words: false`"
            needs.append(Need("pieces", " does not mark the pieces of a word", hint))
        least = config.random_from
        lacking = f" has no word from `random_from: {least}` on"
        needs.append(Need("vocab_size", lacking, "a lower `components.{masker}.random_from`", least + 1))
        return tuple(needs)

    def _choose(self, ids: Tensor, words: Tensor, tokenizer: Any) -> Tensor:
        drawn = torch.rand(ids.shape, device=ids.device)
        if self.config.whole_words:
            pieces = [number for token, number in tokenizer.vocabulary().items() if token.startswith(CONTINUES)]
            if not pieces:
                raise UserError(
                    "`whole_words` needs a vocabulary that marks the pieces of a word with `##`",
                    hints=["`use: wordpiece`", "whole_words: false"],
                )
            starts = ~(_among(ids, pieces) & words)
            word = starts.cumsum(1) - 1
            drawn = drawn.gather(1, word.clamp(min=0))  # a word's pieces share one draw
        return words & (drawn < self.config.probability)


def _among(ids: Tensor, numbers: Sequence[int]) -> Tensor:
    """Tell where ids are among these numbers; an accelerator is not waited for."""
    return torch.isin(ids, torch.tensor(numbers).to(ids.device, non_blocking=True))
