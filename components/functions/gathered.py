"""The rows of all processes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.components.layers.processes import together
from compose_vlp.registry import EACH, function
from compose_vlp.values import Embedding, Image, Number, Text


def _gathered(_: None, ports: Mapping[str, Any]) -> Any:
    x = ports["x"]
    return replace(x, rows=replace(x.rows, gathered=True))


@function("gathered", rows="batch", output=_gathered)
def gathered(
    x: Annotated[Embedding, "rows width", EACH]
    | Annotated[Image, "rows size", EACH]
    | Annotated[Text, "rows length vocab_size", EACH]
    | Annotated[Number, "rows"],
) -> Embedding | Image | Text | Number:
    """The rows of all processes in the order of their ranks; with one process, what came in.

    Gradients flow back to the process that a row came from, summed over all that used it. Every process has equally
    many rows; texts are padded to the longest of all processes.
    """
    if not together():
        return x
    if isinstance(x, Embedding):
        return Embedding(_all_with_gradient(x.features), own=dist.get_rank() * len(x.features))
    if isinstance(x, Image):
        return replace(x, pixels=_all_with_gradient(x.pixels))
    if isinstance(x, Text):
        return _texts(x)
    return replace(x, values=_all(x.values))


def _texts(x: Text) -> Text:
    longest = torch.tensor(x.ids.shape[1], device=x.ids.device)
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    padded = F.pad(x.ids, (0, int(longest) - x.ids.shape[1]), value=x.pad)
    given = None if x.given is None else _all(x.given)
    return replace(x, ids=_all(padded), lengths=_all(x.lengths), given=given)


def _all(local: Tensor) -> Tensor:
    rows = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, local.contiguous())
    return torch.cat(rows)


def _all_with_gradient(local: Tensor) -> Tensor:
    rows: Tensor = _AllGather.apply(local)  # type: ignore[no-untyped-call]
    return rows


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.rows = len(local)
        return _all(local)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
