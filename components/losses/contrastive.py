"""Contrastive loss over similarities: every row has to find its own column."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import DETACHED, Beside, Settings, loss
from compose_vlp.values import Number, Scalar, Similarity, as_list


@loss("contrastive")
class Contrastive(nn.Module):
    """Cross-entropy of each row's scores against its own column, meaned over the rows, for one or several directions.

    With `soft`, the wanted distribution is `alpha` times the softmax of these scores (a teacher's) and `1 - alpha`
    times the own column (ALBEF, Li et al. 2021, eq. 6). With `same`, the ids of the columns, every column of the row's
    own id is right, in equal shares (ALBEF's and BLIP's retrieval). Where columns are gathered from all processes, each
    of these sees its own rows, and the mean over the processes is the loss of the global batch.
    """

    class Config(Settings):
        reduction: Literal["mean", "sum"] = Field(
            "mean", description="over the directions: mean as in CLIP, sum as in the CoCa paper (eq. 2)"
        )
        label_smoothing: float = Field(
            0.0, ge=0, lt=1, description="share of the target spread evenly over all columns"
        )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        scores: list[Annotated[Similarity, "rows columns"]],
        soft: list[Annotated[Similarity, "rows columns", DETACHED]] | None = None,
        alpha: Annotated[float, Field(ge=0, le=1), Beside("soft")] = 0.0,
        same: Annotated[Number, "any_ids"] | None = None,
    ) -> Scalar:
        """`scores` and `soft` `[rows, columns]` each; row i belongs to column `own + i`; ids `[columns]`."""
        directions = as_list(scores)
        teachers = as_list(soft) or [None] * len(directions)
        losses = [
            self._direction(similarity, t, alpha, same) for similarity, t in zip(directions, teachers, strict=True)
        ]
        total = torch.stack(losses)
        return Scalar(total.mean() if self.config.reduction == "mean" else total.sum())

    def _direction(self, similarity: Similarity, soft: Similarity | None, alpha: float, same: Number | None) -> Tensor:
        scores = full(similarity.scores)
        own = torch.arange(len(scores), device=scores.device) + similarity.own
        right = own if same is None else _shares(same.values, own)
        hard = F.cross_entropy(scores, right, label_smoothing=self.config.label_smoothing)
        if soft is None:
            return hard
        target = full(soft.scores.detach()).softmax(1)
        softened = -(target * scores.log_softmax(1)).sum(1).mean()
        return (1 - alpha) * hard + alpha * softened


def _shares(ids: Tensor, own: Tensor) -> Tensor:
    """`[rows, columns]`: one over the number of columns of the row's id, at these columns."""
    right = (ids == ids[own][:, None]).float()
    return right / right.sum(1, keepdim=True)
