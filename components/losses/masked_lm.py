"""Masked language modelling: hidden words are foretold from all that is left."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import DETACHED, Beside, Settings, loss
from compose_vlp.values import Labels, Logits, Scalar

IGNORED = -100


@loss("masked_lm", rows="independent", selects=True, foretells="hidden")
class MaskedLm(nn.Module):
    """Mean negative log-likelihood of the hidden words (BERT, Devlin et al. 2019).

    With `soft`, a teacher's scores of the same places, the loss is `1 - alpha` times that and `alpha` times the
    cross-entropy against the teacher's distribution (ALBEF, Li et al. 2021, eq. 7). A batch without any hidden word
    has a loss of 0.
    """

    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        logits: Annotated[Logits, "rows length classes"],
        labels: Annotated[Labels, "rows length"],
        soft: Annotated[Logits, "rows length classes", DETACHED] | None = None,
        alpha: Annotated[float, Field(ge=0, le=1), Beside("soft")] = 0.0,
    ) -> Scalar:
        """Scores `[batch, length, classes]`, or `[chosen, classes]` at the places that `selects` names."""
        places = self.selects(labels) if logits.at is None else logits.at
        words = labels.ids.flatten()[places]
        scores = full(_at(logits, places))
        total = F.cross_entropy(scores, words, reduction="sum")
        if soft is not None:
            wanted = full(_at(soft, places).detach()).softmax(1)
            taught = -(wanted * scores.log_softmax(1)).sum()
            total = (1 - alpha) * total + alpha * taught
        count = torch.tensor(len(words), device=scores.device)
        return Scalar(total / count.clamp(min=1), count=count)

    def selects(self, labels: Labels) -> Tensor:
        """Places `[chosen]` of the flattened `[batch * length]` that hold a hidden word."""
        if labels.ids.device.type == "meta":  # no word is known
            return torch.arange(labels.ids.numel(), device="meta")
        return (labels.ids.flatten() != IGNORED).nonzero()[:, 0]


def _at(logits: Logits, places: Tensor) -> Tensor:
    """Scores `[chosen, classes]` of all scores, or of those of just these places."""
    return logits.scores if logits.at is not None else logits.scores.flatten(0, -2)[places]
