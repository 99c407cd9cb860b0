"""Batches on their way from a reader: in shared memory, or through a pipe where that is too small."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass

from compose_vlp.data.collate import Batch, BatchReader
from compose_vlp.data.sampler import Plan
from compose_vlp.doctor import MORE_SHARED, shared_size
from compose_vlp.errors import UserError
from compose_vlp.readable import storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sending:
    """What a reader makes for a plan, in a form that reaches the process that trains."""

    reader: BatchReader

    def __getitem__(self, plan: Plan) -> Batch | Piped | UserError:
        made = self.reader[plan]
        return made if isinstance(made, UserError) or _is_shared(made) else Piped(made)


def _is_shared(batch: Batch) -> bool:
    """Move a batch into shared memory; False where it does not fit.

    Torch would do so later, in a thread of the reader, where an error is printed and the batch is waited for in vain.
    """
    from torch import Tensor
    from torch.utils import _pytree as pytree

    try:
        pytree.tree_map_only(Tensor, lambda tensor: tensor.share_memory_(), batch.values)
    except RuntimeError as error:
        if "shared memory" not in str(error) and "shm" not in str(error):
            raise
        return False
    return True


@dataclass(frozen=True)
class Piped:
    """A batch whose bytes go through the pipe between the two processes: copied twice more, and needing no room."""

    batch: Batch

    def __reduce__(self) -> tuple[Callable[[bytes], Batch], tuple[bytes]]:
        return arrived, (pickle.dumps(self.batch, pickle.HIGHEST_PROTOCOL),)


def arrived(content: bytes) -> Batch:
    """Return the batch that a reader has sent, as it was."""
    batch: Batch = pickle.loads(content)  # noqa: S301 - of a process of our own
    _tell(len(content))
    return batch


def _tell(size: int) -> None:
    """Say it, once a process."""
    if not _told:
        _told.append(size)
        message = (
            "%s is too small for the batches of %s that readers send: they go through pipes, which takes longer; %s"
        )
        log.warning(message, shared_size(), storage(size), MORE_SHARED)


_told: list[int] = []
