"""Where and in what precision a program runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch

from compose_vlp.errors import UserError

Precision = Literal["fp32", "bf16"]


def choose_device(name: str | None = None) -> torch.device:
    """Choose the device of that name; the first GPU, or else the CPU, where none is named.

    Raises:
        UserError: there is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"no device {name!r} here: {reason}", hints=["--device cpu"]) from None
    return device


def autocast(device: torch.device, precision: Precision) -> Callable[[], AbstractContextManager[None]]:
    """Make the context of a forward: with `bf16`, matrix products in bfloat16, all that needs it in float32."""
    return lambda: torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def peak_memory(device: torch.device) -> int:
    """Give the most bytes that this process held so far: of its GPU, or else of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
