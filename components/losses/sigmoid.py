"""Sigmoid loss over similarities: every pair is a question of its own."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import Settings, loss
from compose_vlp.values import Number, Scalar, Similarity, as_list


@loss("sigmoid")
class Sigmoid(nn.Module):
    """Does this text belong to this picture? Asked of every pair (SigLIP, Zhai et al. 2023, eq. 1).

    The sum over all pairs of `-log sigmoid(z (score + bias))`, `z` 1 for a pair that belongs together and -1 for any
    other, over the number of rows; of several directions, the mean. The bias is learnt. The scores are the paper's
    `t x.y`: their temperature is that of `similarity`, and the paper's `t = exp(t')`, which begins at 10, is
    `{use: similarity, temperature: 0.1, learned: log_scale}`.

    With `same`, the ids of the columns, every column of the row's own id belongs to it. Where columns are gathered from
    all processes, each of these sees its own rows, and the mean over the processes is the loss of the global batch.
    """

    class Config(Settings):
        bias: float = Field(
            -10.0, description="what is added to every score, at the start: most pairs do not belong together"
        )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.bias = nn.Parameter(torch.full((1,), config.bias))  # of shape [1]: FSDP2 refuses scalars

    def forward(
        self,
        scores: list[Annotated[Similarity, "rows columns"]],
        same: Annotated[Number, "any_ids"] | None = None,
    ) -> Scalar:
        """`scores` `[rows, columns]` each; row i belongs to column `own + i`; ids `[columns]`."""
        directions = [self._direction(similarity, same) for similarity in as_list(scores)]
        return Scalar(torch.stack(directions).mean())

    def _direction(self, similarity: Similarity, same: Number | None) -> Tensor:
        scores = full(similarity.scores) + self.bias
        own = torch.arange(len(scores), device=scores.device) + similarity.own
        columns = torch.arange(scores.shape[1], device=scores.device)
        belongs = own[:, None] == columns if same is None else same.values[own][:, None] == same.values
        return -F.logsigmoid(torch.where(belongs, scores, -scores)).sum(1).mean()
