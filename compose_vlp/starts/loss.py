"""start_name: each text and picture asks by itself whether they belong together, wrong ones weighing less.

Try it: compose-vlp check tiny/coca --plugin start_file 'losses.contrastive={use: start_name, scores: i2t}'
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from compose_vlp.registry import Settings, loss
from compose_vlp.values import Scalar, Similarity


@loss("start_name")
class StartName(nn.Module):
    """Compare each score with whether its pair is a right one (a binary cross-entropy)."""

    class Config(Settings):
        wrong: float = Field(0.1, gt=0, description="weight of a wrong pair; a right one's is 1")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.wrong = config.wrong

    # Scores are `[rows, columns]`; under several processes the rows are this one's, and `own` says where they begin.
    def forward(self, scores: Annotated[Similarity, "rows columns"]) -> Scalar:
        """Return one number, which the blueprint's `weight` multiplies."""
        rows, columns = scores.scores.shape
        places = torch.arange(rows, device=scores.scores.device) + scores.own
        right = places[:, None] == torch.arange(columns, device=places.device)
        weights = torch.where(right, 1.0, self.wrong)
        each = F.binary_cross_entropy_with_logits(scores.scores, right.to(scores.scores.dtype), weights)
        return Scalar(each * columns)
