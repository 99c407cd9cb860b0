"""Where and in what precision a program runs; accelerate keeps devices, processes and launching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from compose_vlp.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

Precision = Literal["fp32", "bf16"]


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name; the first GPU, or else the CPU, where none is named.

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


def make_accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """Accelerate's keeper of this process, for `accelerate launch` and `torchrun` too."""
    from accelerate import Accelerator

    return Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", cpu=device.type == "cpu")
