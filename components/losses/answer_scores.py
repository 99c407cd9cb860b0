"""Answers with soft scores: a row may have several right classes, each to a degree."""

from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import Settings, loss
from compose_vlp.values import Index, Logits, Number, Scalar


@loss("answer_scores", rows="independent")
class AnswerScores(nn.Module):
    """Binary cross-entropy of each class against its soft score, summed over classes, mean over rows.

    So VLMo and BEiT-3 learn VQAv2 (official `compute_vqa`: the mean over all entries times the number of classes).
    Classes that a row does not name have the score 0.
    """

    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        logits: Annotated[Logits, "rows classes"],
        labels: Annotated[Number, "answers classes"],
        owner: Annotated[Index, "answers"],
        weights: Annotated[Number, "answers"],
    ) -> Scalar:
        """Scores `[rows, classes]`; each answer's class, row and soft score from 0 to 1, all `[answers]`."""
        scores = full(logits.scores)
        named = (owner.rows, labels.values.long())
        soft = torch.zeros_like(scores).index_put(named, weights.values.to(scores.dtype), accumulate=True)
        return Scalar(F.binary_cross_entropy_with_logits(scores, soft, reduction="none").sum(1).mean())
