"""The norm that transformers have had from the start."""

from torch import nn

from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


@fills("layer_norm", slot="norm", rows="independent", state="none", draws="none")
class LayerNorm(nn.LayerNorm):
    """Mean and variance over the features of a position, then a scale and a shift each (Ba et al. 2016).

    `[..., width]` to `[..., width]`; the tower's `norm_eps` is added to the variance.
    """

    class Config(Settings):
        pass

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__(place.width, eps=place.eps)
