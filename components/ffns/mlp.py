"""The feed-forward half of a layer as transformers have had it from the start."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Linear
from compose_vlp.components.layers.transformer import Activation, activate
from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


@fills("mlp", slot="ffn", rows="independent", state="none", draws="none")
class MLP(nn.Module):
    """Two maps with an activation between (Vaswani et al. 2017, 3.3): `[..., width]`, `[..., hidden]`, `[..., width]`.

    The tower says both: `mlp_width` (four widths if left out) and `activation` (gelu if left out).
    """

    class Config(Settings):
        pass

    def __init__(self, config: Config, place: Place) -> None:  # noqa: ARG002 (as every part is made)
        super().__init__()
        hidden = place.hidden or 4 * place.width
        self.activation = cast(Activation, place.activation or "gelu")
        self.fc1 = Linear(place.width, hidden, std=(2 * place.width) ** -0.5)
        self.sub_norm = None if place.sub_norm is None else place.sub_norm(hidden)
        self.fc2 = Linear(hidden, place.width, std=place.std)

    def forward(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Map each position by itself."""
        hidden = activate(self.fc1(x), self.activation)
        mixed: Tensor = self.fc2(hidden if self.sub_norm is None else self.sub_norm(hidden))
        return mixed
