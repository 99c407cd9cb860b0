"""Rotary positions."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from compose_vlp.components.layers.attention import Positions
from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


@fills("rotary", slot="positions", rows="independent", state="none", draws="none")
class Rotary(Positions):
    """Queries and keys are turned by angles that grow with their places, so that scores depend on distances
    (Su et al. 2021, eq. 34).

    On a grid of patches the first half of the pairs is turned by the row, the other by the column, as in EVA-02
    (Fang et al. 2023); a CLS stands at 0 and is not turned. Features of a head that fill no pair for every axis stay.
    """

    turns: ClassVar[bool] = True

    class Config(Settings):
        base: float = Field(10000.0, gt=1, description="of the wave lengths: the longest is nearly 2 pi times this")

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__()
        self.base = config.base

    def forward(
        self, heads: Float[Tensor, "batch n heads head_width"], places: Int[Tensor, "n axes"]
    ) -> Float[Tensor, "batch n heads head_width"]:
        """Turn each pair of features `(i, i + half)` by its angle."""
        axes = places.shape[1]
        pairs = heads.shape[-1] // (2 * axes)
        if pairs == 0:
            return heads
        exact = torch.promote_types(heads.dtype, torch.float32)
        waves = self.base ** (-torch.arange(pairs, device=heads.device, dtype=exact) / pairs)
        angles = (places.to(exact)[:, :, None] * waves).flatten(1)[:, None]
        cosine, sine = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
        half = axes * pairs
        first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), -1)
