"""A learnt vector for each position, or nothing that tells them apart."""

from typing import ClassVar

from compose_vlp.components.layers.attention import Positions
from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


@fills("learned", slot="positions", rows="independent", state="none", draws="none")
class Learned(Positions):
    """A vector for each position, added to what comes in: the tower's table `positions`."""

    table: ClassVar[bool] = True

    class Config(Settings):
        pass

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__()


@fills("none", slot="positions", rows="independent", state="none", draws="none")
class NoPositions(Positions):
    """Nothing tells positions apart, but what causality lets them see, and what came in."""

    class Config(Settings):
        pass

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__()
