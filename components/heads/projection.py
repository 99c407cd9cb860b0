"""A linear map of embeddings, or of every position of a sequence."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import nn

from compose_vlp.components.layers.attention import Linear
from compose_vlp.registry import EACH, Like, Settings, component, inferred
from compose_vlp.values import Embedding, Sequence


@component("projection", rows="independent", state="none", draws="none")
class Projection(nn.Module):
    """One linear map, as the contrastive models put between a tower and the shared space.

    With `hidden` a map and a tanh come before it, as BEiT v2's tokenizer ends (Peng et al. 2022).
    """

    class Config(Settings):
        out: int = Field(gt=0, description="features that come out")
        bias: bool = Field(True, description="has the map a bias?")
        hidden: bool = Field(False, description="a map of equal width with a bias, and a tanh, before it")
        width: int = inferred(description="features that come in")

    parts: Mapping[str, str] = {"weight": "map.weight", "bias": "map.bias", "hidden": "hidden"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hidden = Linear(config.width, config.width) if config.hidden else None
        self.map = Linear(config.width, config.out, bias=config.bias)

    def forward(
        self, x: Annotated[Embedding, "rows width", EACH] | Annotated[Sequence, "rows tokens width", EACH]
    ) -> Annotated[Embedding | Sequence, Like("x", width="out")]:
        """`[..., width]` to `[..., out]`: an Embedding stays one, a Sequence too."""
        inner = x.features if self.hidden is None else self.hidden(x.features).tanh()
        return replace(x, features=self.map(inner))
