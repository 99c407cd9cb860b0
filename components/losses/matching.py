"""Do this picture and this text belong together?"""

from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import Settings, loss
from compose_vlp.values import Logits, Scalar, as_list

MATCH = 1
"""The class that says yes, in ALBEF's, BLIP's and VLMo's heads."""


@loss("matching", rows="independent")
class Matching(nn.Module):
    """Cross-entropy over right and wrong pairs, meaned over all of them (ALBEF, Li et al. 2021, eq. 2)."""

    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        positive: Annotated[Logits, "rows classes"],
        negatives: list[Annotated[Logits, "rows classes"]],
    ) -> Scalar:
        """Scores `[batch, 2]` each, class 1 a match."""
        scores = full(torch.cat([logits.scores for logits in (positive, *as_list(negatives))]))
        labels = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
        labels[: len(positive.scores)] = MATCH
        return Scalar(F.cross_entropy(scores, labels))
