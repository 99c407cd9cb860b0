"""Positions relative to each other, as a bias of attention."""

from typing import ClassVar

from compose_vlp.components.layers.attention import Positions
from compose_vlp.components.layers.multiway import RelativeSettings
from compose_vlp.registry import fills
from compose_vlp.slots import Place


@fills("relative", slot="positions", rows="independent", state="none", draws="none")
class Relative(Positions):
    """A learnt bias of every score, by how two positions lie to each other: in a picture by rows and columns, in a text
    by words, and one for all pairs across (BEiT, Bao et al. 2022; VLMo, Bao et al. 2022).

    The tower has one table for all its layers, `relative_bias`; multiway towers alone have one.
    """

    biases: ClassVar[bool] = True

    class Config(RelativeSettings):
        pass

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__()
