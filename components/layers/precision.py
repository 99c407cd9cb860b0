"""Sums that must not be rounded to bf16."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off on this device."""
    return torch.autocast(autocast_kind(device), enabled=False)


def autocast_kind(device: torch.device) -> str:
    """Whose autocast holds on this device: on the meta device, which has none, that of a GPU."""
    return "cuda" if device.type == "meta" else device.type


def full(x: Tensor) -> Tensor:
    """The same numbers in float32, where they came in less."""
    return x if x.dtype == torch.float64 else x.float()
