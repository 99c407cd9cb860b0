"""What processes that train together tell each other."""

import torch.distributed as dist


def together() -> bool:
    """Do several processes train this model?"""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
