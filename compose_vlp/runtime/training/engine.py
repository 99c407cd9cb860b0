"""How the processes of a run bring their gradients together: torch's engines, around the forward of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.recompute import Recomputed, recomputing
from compose_vlp.compiler.source import Program


class Engine:
    """One process: a backward gives parameters their gradients, and nobody else has to be asked.

    Of the others, a backward leaves every parameter with the mean of its gradients over the processes; one that no
    process reached has none. The layers `again` run a second time in it, and keep nothing until then.
    """

    def __init__(self, model: Model, again: Sequence[Recomputed] = ()) -> None:
        self.model = model
        self.again = tuple(again)
        self._root: nn.Module = model

    def __call__(self, program: Program, batch: Mapping[str, Any], step: Step) -> dict[str, Any]:
        """Run a program; where it runs with gradients, the backward goes from all tensors that it gave."""
        with recomputing(self.again):
            result: dict[str, Any] = self._root(program, batch, step)
        return result

    def more_to_come(self) -> AbstractContextManager[Any]:
        """Forward and backward within add to the gradients of this process; those after it bring them together."""
        return nullcontext()


class Replicas(Engine):
    """`ddp`: the whole model in every process; gradients travel in buckets while the backward makes the next ones.

    Parameters may be out of reach of a program, and of a batch. The buckets have a process group of their own, since
    which is sent first may differ between processes, and losses send something in the backward, too. Buffers are not
    sent: queues and codebooks are moved alike by all processes, and of statistics the first one's are kept.
    """

    def __init__(self, model: Model, again: Sequence[Recomputed] = ()) -> None:
        super().__init__(model, again)
        self._root = self._ddp = DistributedDataParallel(
            _WithOneUnreached(model),
            process_group=dist.new_group(),
            broadcast_buffers=False,
            init_sync=False,  # all processes have the first one's weights since the run began, or those of a checkpoint
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )

    def more_to_come(self) -> AbstractContextManager[Any]:
        pause: AbstractContextManager[Any] = self._ddp.no_sync()
        return pause


class _WithOneUnreached(nn.Module):
    """A model beside a parameter that nothing reaches: where DDP looks for such and finds none, it writes a warning to
    standard error that no filter holds back.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.unreached = nn.Parameter(torch.zeros(1, device=next(model.parameters()).device))

    def forward(self, program: Program, batch: Mapping[str, Any], step: Step) -> dict[str, Any]:
        result: dict[str, Any] = self.model(program, batch, step)
        return result
