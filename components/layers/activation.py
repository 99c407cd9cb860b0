"""Activations by name."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["gelu", "quick_gelu", "silu"]


def activate(x: Tensor, activation: Activation) -> Tensor:
    """`gelu`: x Phi(x) with the error function; `quick_gelu`: x sigmoid(1.702 x), as in OpenAI's CLIP; `silu`: x
    sigmoid(x)."""
    if activation == "silu":
        return F.silu(x)
    return F.gelu(x) if activation == "gelu" else x * torch.sigmoid(1.702 * x)
