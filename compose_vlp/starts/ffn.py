"""start_name: the feed-forward half of a layer, gated by what comes in.

Try it: compose-vlp check tiny/coca --plugin start_file 'components.*.ffn=start_name'
"""

from pydantic import Field
from torch import Tensor, nn

from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


# What is promised here, the compiler may use: a row's result depends on this row alone, nothing is kept from call to
# call, nothing is drawn. Leave out what is not so.
@fills("start_name", slot="ffn", rows="independent", state="none", draws="none")
class StartName(nn.Module):
    """Gate an MLP by a map of what came in."""

    class Config(Settings):
        hidden: int = Field(64, gt=0, description="features between the two maps")

    # `place` is what a tower says of where this stands: `width`, and its own `mlp_width`, `activation`, `norm_eps`.
    def __init__(self, config: Config, place: Place) -> None:
        super().__init__()
        self.down = nn.Linear(place.width, config.hidden)
        self.up = nn.Linear(config.hidden, place.width)
        self.gate = nn.Linear(place.width, place.width)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, tokens, width]` to `[batch, tokens, width]`."""
        gated: Tensor = self.gate(x).sigmoid() * self.up(self.down(x).relu())
        return gated
