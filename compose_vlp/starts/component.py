"""start_name: features go through a small map of two layers, and are added to what came in.

Try it: compose-vlp check tiny/coca --plugin start_file '+components.extra={use: start_name}' 'visual=extra(previous)'
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Sequence


# What is promised here, the compiler may use: a row's result depends on this row alone, nothing is kept from call to
# call, nothing is drawn. Leave out what is not so.
@component("start_name", rows="independent", state="none", draws="none")
class StartName(nn.Module):
    """Add what a map of two layers makes of each position."""

    class Config(Settings):
        hidden: int = Field(64, gt=0, description="features between the two maps")
        width: int = inferred()  # from the graph: the dimension of this name below

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.down = nn.Linear(config.width, config.hidden)
        self.up = nn.Linear(config.hidden, config.width)

    # Each argument is a port, with its dimensions by name. EACH: a position sees itself alone; ALL: all others too.
    def forward(self, x: Annotated[Sequence, "rows tokens width", EACH]) -> Annotated[Sequence, "rows tokens width"]:
        """`[batch, tokens, width]` to `[batch, tokens, width]`."""
        return x.with_features(x.features + self.up(self.down(x.features).relu()))
