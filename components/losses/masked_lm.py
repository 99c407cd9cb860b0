"""Masked language modelling: hidden words are foretold from all that is left."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.summed_loss import IGNORED, Targets, kept_of, summed
from compose_vlp.registry import DETACHED, Beside, Mixing, Settings, loss
from compose_vlp.values import Labels, Logits, Scalar


@loss("masked_lm", rows="independent", selects=True, foretells="hidden")
class MaskedLm(nn.Module):
    """Mean negative log-likelihood of the hidden words (BERT, Devlin et al. 2019).

    With `soft`, a teacher's scores of the same places, the loss is `1 - alpha` times that and `alpha` times the
    cross-entropy against the teacher's distribution (ALBEF, Li et al. 2021, eq. 7). A batch without any hidden word
    has a loss of 0.

    BEiT-3's captions are learnt with `label_smoothing`, the divergence (Kullback and Leibler's) from a target that
    gives this share to the other words in equal parts, and `drop_worst`, the share of hidden words left out of the
    mean: those of a process that are foretold worst.
    """

    class Config(Settings):
        label_smoothing: float = Field(
            0.0,
            ge=0,
            lt=1,
            description="share of the target spread evenly over all other words; the loss of a "
            "distribution that is this target is 0",
        )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        logits: Annotated[Logits, "rows length classes"],
        labels: Annotated[Labels, "rows length"],
        soft: Annotated[Logits, "rows length classes", DETACHED] | None = None,
        alpha: Annotated[float, Field(ge=0, le=1), Beside("soft")] = 0.0,
        drop_worst: Annotated[float, Field(ge=0, lt=1), Mixing()] = 0.0,
    ) -> Scalar:
        """Scores `[batch, length, classes]`, or `[chosen, classes]` at the places that `selects` names."""
        places = self.selects(labels) if logits.at is None else logits.at
        words = labels.ids.flatten()[places]
        # of the words that a share of the target is spread over, the right one is none
        classes = logits.classes
        share, others = self.config.label_smoothing, max(classes - 1, 1)
        targets = Targets(words, share * classes / others, soft, alpha)
        count = kept_of(len(words), drop_worst)
        total = summed(logits, targets, places=places, drop_worst=drop_worst)
        least = (1 if soft is None else 1 - alpha) * _entropy(share, others) * count
        return Scalar((total - least) / max(count, 1), count=torch.full((), count, device=words.device))

    def selects(self, labels: Labels) -> Tensor:
        """Places `[chosen]` of the flattened `[batch * length]` that hold a hidden word."""
        if labels.ids.device.type == "meta":  # no word is known
            return torch.arange(labels.ids.numel(), device="meta")
        return (labels.ids.flatten() != IGNORED).nonzero()[:, 0]


def _entropy(share: float, others: int) -> float:
    """Of the smoothed target, which is the least that its cross-entropy can be."""
    return 0.0 if share == 0 else -(1 - share) * math.log(1 - share) - share * math.log(share / others)
