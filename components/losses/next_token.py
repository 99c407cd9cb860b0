"""Language modelling: every position foretells the next word."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.registry import Settings, loss
from compose_vlp.values import Logits, Number, Scalar, Text, Value, rows_of

IGNORED = -100


@loss("next_token", rows="independent", foretells="next")
class NextToken(nn.Module):
    """Mean negative log-likelihood of the next word (CoCa, Yu et al. 2022, eq. 3), over all words.

    The loss shifts the words itself; padding and given words (a prompt) are not foretold. With `per`, the loss is the
    sum over all words, divided by the rows of that value instead (ALBEF's and BLIP's answers, `per: question`);
    `weights` multiply the words of each text.
    """

    class Config(Settings):
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all words")
        skip: Literal["padding", "pad_id"] = Field(
            "padding",
            description="what is not foretold: places past a text's end, or with pad_id also words that have the "
            "padding's id (open_clip, where it is the id of '!' too)",
        )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        logits: Annotated[Logits, "rows length classes"],
        weights: Annotated[Number, "rows"] | None = None,
        per: Annotated[Value, "groups"] | None = None,
    ) -> Scalar:
        """Scores `[batch, length, classes]`, or `[chosen, classes]` at the places that `selects` names."""
        if logits.text is None:
            raise ValueError("next_token needs logits that stand on a text")
        labels = self.labels(logits.text).flatten()
        scores = logits.scores.flatten(0, -2)
        if logits.at is not None:
            labels = labels[logits.at]
        lost = F.cross_entropy(
            scores, labels, ignore_index=IGNORED, label_smoothing=self.config.label_smoothing, reduction="none"
        )
        if weights is not None:
            length = logits.text.ids.shape[1]
            places = torch.arange(logits.text.ids.numel(), device=scores.device) if logits.at is None else logits.at
            lost = lost * weights.values.to(lost.dtype)[places // length]
        if per is not None:
            return Scalar(lost.sum() / rows_of(per))
        words = (labels != IGNORED).sum()
        return Scalar(lost.sum() / words.clamp(min=1), count=words)

    def selects(self, text: Text) -> Tensor:
        """Places `[chosen]` of the flattened `[batch * length]` that have a word to foretell."""
        return (self.labels(text).flatten() != IGNORED).nonzero()[:, 0]

    def labels(self, text: Text) -> Tensor:
        """The word after each place `[batch, length]`, `IGNORED` where there is none."""
        wanted = text.valid if self.config.skip == "padding" else text.valid & (text.ids != text.pad)
        if text.given is not None:
            wanted = wanted & (torch.arange(text.ids.shape[1], device=text.ids.device) >= text.given[:, None])
        words = text.ids.masked_fill(~wanted, IGNORED)
        return torch.cat((words[:, 1:], torch.full_like(words[:, :1], IGNORED)), 1)
