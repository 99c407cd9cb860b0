"""Language modelling: every position foretells the next word."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.summed_loss import IGNORED, Targets, summed
from compose_vlp.registry import DETACHED, Beside, Settings, loss
from compose_vlp.values import Logits, Number, Scalar, Text, Value, rows_of


@loss("next_token", rows="independent", selects=True, foretells="next")
class NextToken(nn.Module):
    """Mean negative log-likelihood of the next word (CoCa, Yu et al. 2022, eq. 3), over all words.

    The loss shifts the words itself; padding and given words (a prompt) are not foretold. With `per`, the loss is the
    sum over all words, divided by the rows of that value instead (ALBEF's and BLIP's answers, `per: question`);
    `weights` multiply the words of each text. With `soft`, a teacher's scores, each word's loss is `1 - alpha` times
    its own and `alpha` times the cross-entropy against the teacher's distribution (ALBEF's VQA, Li et al. 2021, 3.3).
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
        soft: Annotated[Logits, "rows length classes", DETACHED] | None = None,
        alpha: Annotated[float, Field(ge=0, le=1), Beside("soft")] = 0.0,
    ) -> Scalar:
        """Scores `[batch, length, classes]`, or `[chosen, classes]` at the places that `selects` names."""
        if logits.text is None:
            raise ValueError("next_token needs logits that stand on a text")
        every = self.labels(logits.text).flatten()
        at = torch.arange(len(every), device=every.device) if logits.at is None else logits.at
        labels = every[at]
        owners = None if weights is None else weights.values[at // logits.text.ids.shape[1]]
        total = summed(logits, Targets(labels, self.config.label_smoothing, soft, alpha, owners), places=at)
        if per is not None:
            return Scalar(total / rows_of(per))
        words = (labels != IGNORED).sum()
        return Scalar(total / words.clamp(min=1), count=words)

    def selects(self, text: Text) -> Tensor:
        """Places `[chosen]` of the flattened `[batch * length]` that have a word to foretell."""
        return (self.labels(text).flatten() != IGNORED).nonzero()[:, 0]

    def labels(self, text: Text) -> Tensor:
        """The word after each place `[batch, length]`, `IGNORED` where there is none."""
        predicted = text.valid if self.config.skip == "padding" else text.valid & (text.ids != text.pad)
        if text.given is not None:
            predicted = predicted & (torch.arange(text.ids.shape[1], device=text.ids.device) >= text.given[:, None])
        words = text.ids.masked_fill(~predicted, IGNORED)
        return torch.cat((words[:, 1:], torch.full_like(words[:, :1], IGNORED)), 1)
