"""The feed-forward half of a transformer layer."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.linear import Linear

Activation = Literal["gelu", "quick_gelu"]


def activate(x: Tensor, activation: Activation) -> Tensor:
    """`gelu`: x Phi(x) with the error function; `quick_gelu`: x sigmoid(1.702 x), as in OpenAI's CLIP."""
    return F.gelu(x) if activation == "gelu" else x * torch.sigmoid(1.702 * x)


class MLP(nn.Module):
    """`[..., width]` to `[..., hidden]` to `[..., width]`, with an activation between.

    `std` is that of the second map's weights.
    """

    def __init__(self, width: int, hidden: int, *, activation: Activation = "gelu", std: float | None = None) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.fc1 = Linear(width, hidden, std=(2 * width) ** -0.5)
        self.fc2 = Linear(hidden, width, std=std)

    def forward(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        hidden: Tensor = self.fc2(activate(self.fc1(x), self.activation))
        return hidden
