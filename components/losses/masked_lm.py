"""Masked language modelling: hidden words are foretold from all that is left."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import DETACHED, Beside, Mixing, Settings, loss
from compose_vlp.values import Labels, Logits, Scalar

IGNORED = -100


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
        scores = full(_at(logits, places))
        terms = self._hard(scores, words)
        if soft is not None:
            target = full(_at(soft, places).detach()).softmax(1)
            terms = (1 - alpha) * terms - alpha * (target * scores.log_softmax(1)).sum(1)
        if drop_worst > 0 and len(terms) > 0:
            kept = max(int(len(terms) * (1 - drop_worst)), 1)
            terms = terms.topk(kept, largest=False).values
        count = torch.tensor(len(terms), device=scores.device)
        return Scalar(terms.sum() / count.clamp(min=1), count=count)

    def _hard(self, scores: Tensor, words: Tensor) -> Tensor:
        """The term `[chosen]` of each hidden word."""
        share = self.config.label_smoothing
        likely = F.cross_entropy(scores, words, reduction="none")
        if share == 0:
            return likely
        others = max(scores.shape[1] - 1, 1)
        unlikely = -scores.log_softmax(1).sum(1) - likely
        entropy = -(1 - share) * math.log(1 - share) - share * math.log(share / others)
        return (1 - share) * likely + share / others * unlikely - entropy

    def selects(self, labels: Labels) -> Tensor:
        """Places `[chosen]` of the flattened `[batch * length]` that hold a hidden word."""
        if labels.ids.device.type == "meta":  # no word is known
            return torch.arange(labels.ids.numel(), device="meta")
        return (labels.ids.flatten() != IGNORED).nonzero()[:, 0]


def _at(logits: Logits, places: Tensor) -> Tensor:
    """Scores `[chosen, classes]` of all scores, or of those of just these places."""
    return logits.scores if logits.at is not None else logits.scores.flatten(0, -2)[places]
