"""What tells a tower's positions apart: the base of all kinds that fill the slot `positions`."""

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn


class Positions(nn.Module):
    """A kind says by its marks what it does, and the tower does the rest.

    `table`: the tower has a vector for each position, which it adds to what comes in. `turns`: the queries and keys of
    every self-attention go through `forward` before they meet. `biases`: scores are raised or lowered by how two
    positions lie to each other.
    """

    table: ClassVar[bool] = False
    turns: ClassVar[bool] = False
    biases: ClassVar[bool] = False

    def forward(
        self,
        heads: Float[Tensor, "batch n heads head_width"],
        places: Int[Tensor, "n axes"],  # noqa: ARG002 (for kinds that turn)
    ) -> Float[Tensor, "batch n heads head_width"]:
        """Turn queries or keys by the places at which they stand."""
        return heads
