"""What processes that train together tell each other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_ALIGNED = 8
"""Bytes at whose multiples each tensor begins where several travel as one: those of the widest number."""


_APART: ContextVar[bool] = ContextVar("apart", default=False)


@contextmanager
def apart() -> Iterator[None]:
    """Within it a process computes as one that is alone: what it measures from shapes has nothing to tell the others,
    who do not measure."""
    before = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(before)


def together() -> bool:
    """Do several processes train this model?"""
    return not _APART.get() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_rows(local: Tensor) -> Tensor:
    """Gather the rows of all processes in the order of their ranks; equally many of each."""
    rows = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, local.contiguous())
    return torch.cat(rows)


def all_rows_with_gradient(local: Tensor) -> Tensor:
    """As `all_rows`; gradients flow back to the process that a row came from, summed over all that used it."""
    return all_rows_at_once([local])[0]


def all_rows_at_once(tensors: Sequence[Tensor]) -> list[Tensor]:
    """As `all_rows_with_gradient` for each of some tensors, of any types and shapes, in one collective each way.

    They travel as bytes, one after the other; gradients of one type in one sum.
    """
    if not tensors:
        return []
    rows: tuple[Tensor, ...] = _AllGather.apply(*tensors)  # type: ignore[no-untyped-call]
    return list(rows)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.rows = [len(tensor) for tensor in tensors]
        gathered = [all_rows(tensors[0])] if len(tensors) == 1 else _all_rows_packed(tensors)
        ctx.mark_non_differentiable(
            *(rows for rows, follows in zip(gathered, ctx.needs_input_grad, strict=True) if not follows)
        )
        return tuple(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        own: list[Tensor | None] = [None] * len(gradients)
        followed = [i for i, follows in enumerate(ctx.needs_input_grad) if follows]
        for dtype in dict.fromkeys(gradients[i].dtype for i in followed):
            alike = [i for i in followed if gradients[i].dtype == dtype]
            total = torch.cat([gradients[i].flatten() for i in alike])
            dist.all_reduce(total)
            pieces = total.split([gradients[i].numel() for i in alike])
            for i, piece in zip(alike, pieces, strict=True):
                start = dist.get_rank() * ctx.rows[i]
                own[i] = piece.view_as(gradients[i])[start : start + ctx.rows[i]]
        return tuple(own)


def _all_rows_packed(tensors: Sequence[Tensor]) -> list[Tensor]:
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    starts = [0, *accumulate(-(-size // _ALIGNED) * _ALIGNED for size in sizes)]
    packed = torch.zeros(starts[-1], dtype=torch.uint8, device=tensors[0].device)
    places = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    for tensor, place in zip(tensors, places, strict=True):
        packed[place] = tensor.contiguous().flatten().view(torch.uint8)
    received = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
    dist.all_gather(received, packed)
    return [
        torch.cat([piece[place].view(tensor.dtype).view(tensor.shape) for piece in received])
        for tensor, place in zip(tensors, places, strict=True)
    ]
