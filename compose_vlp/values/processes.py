"""What processes that train together tell each other."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def together() -> bool:
    """Do several processes train this model?"""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_rows(local: Tensor) -> Tensor:
    """Gather the rows of all processes in the order of their ranks; equally many of each."""
    rows = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, local.contiguous())
    return torch.cat(rows)


def all_rows_with_gradient(local: Tensor) -> Tensor:
    """As `all_rows`; gradients flow back to the process that a row came from, summed over all that used it."""
    rows: Tensor = _AllGather.apply(local)  # type: ignore[no-untyped-call]
    return rows


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.rows = len(local)
        return all_rows(local)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
