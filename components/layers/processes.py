"""What processes that train together tell each other."""

import torch
import torch.distributed as dist
from torch import Tensor


def together() -> bool:
    """Do several processes train this model?"""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_processes(count: Tensor) -> Tensor:
    """The mean of a count [] over all processes, so that sums divided by it average to the global mean.

    Without gradients (evaluation, where processes need not have equally many batches) the count itself.
    """
    if not together() or not torch.is_grad_enabled():
        return count
    total = count.float()
    dist.all_reduce(total)
    return total / dist.get_world_size()
