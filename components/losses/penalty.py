"""A number that the model gives of each row, as a loss."""

from typing import Annotated

from torch import nn

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import Settings, loss
from compose_vlp.values import Number, Scalar


@loss("penalty", rows="independent")
class Penalty(nn.Module):
    """The mean over the batch of a number that is to be small, such as a codebook's `commitment`."""

    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Annotated[Number, "rows"]) -> Scalar:
        """Numbers `[batch]` to `[]`."""
        return Scalar(full(x.values).mean())
