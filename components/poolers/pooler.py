"""A vector of a pair as BERT pools it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Linear
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.slots import Part, Place, slot
from compose_vlp.values import Embedding


@component("pooler", rows="independent", state="none", draws="none")
class Pooler(nn.Module):
    """A map of equal width and tanh (BERT, Devlin et al. 2019; VLMo); with `normed` a norm first (BEiT-3)."""

    class Config(Settings):
        normed: bool = Field(False, description="a norm before the map?")
        norm: Part = slot("norm", "layer_norm", "this norm")
        norm_eps: float = Field(1e-5, gt=0, description="added to the variance in the norm")
        width: int = inferred(description="features that come in, and go out")

    parts: Mapping[str, str] = {"norm": "norm", "map": "map"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = config.norm.make(Place(config.width, eps=config.norm_eps)) if config.normed else None
        self.map = Linear(config.width, config.width, std=0.02)

    def forward(self, x: Annotated[Embedding, "rows width", EACH]) -> Annotated[Embedding, "rows width"]:
        """`[batch, width]` to `[batch, width]`."""
        normed: Tensor = x.features if self.norm is None else self.norm(x.features)
        return replace(x, features=self.map(normed).tanh())
