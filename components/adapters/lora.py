"""Low-rank adaptation of linear maps."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.adapters import MapSizes
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings, adapter


@adapter("lora", rows="independent", state="none", draws="noise", noise=("dropout",))
class LoRA(nn.Module):
    """`W x + (alpha / rank) * up(down(dropout(x)))` (Hu et al. 2021, section 4.1), on top of the map's own weight W.

    `down` `[rank, inputs]` is drawn as its authors' code draws it, evenly between +-`inputs ** -0.5`; `up` `[outputs,
    rank]` is 0, so that nothing is changed before the first step.
    """

    class Config(Settings):
        rank: int = Field(8, gt=0, description="features between the two factors")
        alpha: float | None = Field(None, gt=0, description="the product is scaled by alpha / rank; by 1, if left out")
        dropout: float = Field(0.0, ge=0, lt=1, description="of what the first factor sees, in training")

    def __init__(self, config: Config, sizes: MapSizes) -> None:
        super().__init__()
        if config.rank > min(sizes.inputs, sizes.outputs):
            raise UserError(f"`rank` {config.rank} is more than a map of {sizes.inputs} to {sizes.outputs} has")
        self.scale = 1.0 if config.alpha is None else config.alpha / config.rank
        self.dropout = nn.Dropout(config.dropout)
        self.down = nn.Parameter(torch.empty(config.rank, sizes.inputs))
        self.up = nn.Parameter(torch.zeros(sizes.outputs, config.rank))
        nn.init.uniform_(self.down, -(sizes.inputs**-0.5), sizes.inputs**-0.5)

    def forward(
        self, x: Float[Tensor, "*rows inputs"], weight: Float[Tensor, "outputs inputs"], bias: Tensor | None
    ) -> Float[Tensor, "*rows outputs"]:
        """The map's own product, and that of the two factors."""
        return F.linear(x, weight, bias) + self.scale * F.linear(F.linear(self.dropout(x), self.down), self.up)

    def merged(self, weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """The weight of a plain map that computes the same, but for dropout."""
        return weight + self.scale * (self.up @ self.down)
