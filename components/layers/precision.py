"""Sums that must not be rounded to bf16."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off on this device; on the meta device, which knows no autocast, nothing."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def full(x: Tensor) -> Tensor:
    """The same numbers in float32, where they came in less."""
    return x if x.dtype == torch.float64 else x.float()
