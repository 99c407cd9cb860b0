"""A norm without means."""

from torch import nn

from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


@fills("rms_norm", slot="norm", rows="independent", state="none", draws="none")
class RMSNorm(nn.RMSNorm):
    """The features of a position divided by the root of their mean square, then a scale each (Zhang and Sennrich 2019).

    `[..., width]` to `[..., width]`; the tower's `norm_eps` is added to the mean square.
    """

    class Config(Settings):
        pass

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__(place.width, eps=place.eps)
