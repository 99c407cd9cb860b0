"""A gated feed-forward half of a layer."""

from typing import cast

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Linear
from compose_vlp.components.layers.transformer import Activation, activate
from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place

MULTIPLE = 8
"""Hidden features are rounded up to it, since matrix products are slow at odd sizes."""


@fills("swiglu", slot="ffn", rows="independent", state="none", draws="none")
class SwiGLU(nn.Module):
    """`out(silu(gate(x)) * value(x))` (Shazeer 2020, eq. 6): `[..., width]` to `[..., width]`.

    Hidden features are two thirds of the tower's `mlp_width`, so that three maps have as many weights as an MLP's two.
    The tower's `activation` stands in place of silu where one is written (gelu makes it GEGLU).
    """

    class Config(Settings):
        bias: bool = Field(True, description="have the three maps a bias?")

    def __init__(self, config: Config, place: Place) -> None:
        super().__init__()
        hidden = _two_thirds(place.hidden or 4 * place.width)
        self.activation = cast(Activation, place.activation or "silu")
        self.gate_value = Linear(place.width, 2 * hidden, bias=config.bias)
        self.sub_norm = None if place.sub_norm is None else place.sub_norm(hidden)
        self.out = Linear(hidden, place.width, bias=config.bias, std=place.std)

    def forward(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Map each position by itself."""
        gate, value = self.gate_value(x).chunk(2, -1)
        hidden = activate(gate, self.activation) * value
        mixed: Tensor = self.out(hidden if self.sub_norm is None else self.sub_norm(hidden))
        return mixed


def _two_thirds(hidden: int) -> int:
    return -(-2 * hidden // (3 * MULTIPLE)) * MULTIPLE
