"""What is added to the stream: a branch with its norm, its dropout and its drop-path."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Placement = Literal["pre", "post"]


class Residual(nn.Module):
    """`x + branch(norm(x))` (pre), or `norm(x + branch(x))` (post); further arguments go to the branch.

    Args:
        branch: `[batch, n, width]` to `[batch, n, width]`.
        norm: over the width.
        placement: where the norm stands: before the branch (Wang et al. 2019), or after the sum (Vaswani et al. 2017).
        dropout: probability that an element of the branch is dropped in training.
        drop_path: probability that a row goes without the branch in training (Huang et al. 2016).
        scale: factors `[width]` of the branch's features (LayerScale, Touvron et al. 2021).
    """

    def __init__(
        self,
        branch: nn.Module,
        norm: nn.Module,
        *,
        placement: Placement = "pre",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        scale: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.norm = norm
        self.branch = branch
        self.placement: Placement = placement
        self.dropout = dropout
        self.drop_path = drop_path

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        before = self.norm(x) if self.placement == "pre" else x
        added = F.dropout(self.branch(before, *args, **kwargs), self.dropout, self.training)
        if self.scale is not None:
            added = added * self.scale
        total = x + drop_path(added, self.drop_path if self.training else 0.0)
        normed: Tensor = total if self.placement == "pre" else self.norm(total)
        return normed


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Rows of `x` zeroed with this probability, the others scaled so that the mean stays."""
    if probability == 0.0:
        return x
    kept = 1.0 - probability
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    return x * torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(kept) / kept
