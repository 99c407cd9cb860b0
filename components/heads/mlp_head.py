"""Logits over classes through a wider layer."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.attention import Linear
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Embedding, Logits


@component("mlp_head", rows="independent", state="none", draws="none")
class MLPHead(nn.Module):
    """A map, LayerNorm, GELU and a map to the scores of classes, as VLMo and BEiT-3 answer questions and judge NLVR2.

    With `hidden: 0` there is one map only: BEiT-3's ImageNet head is that with `input_norm`.
    """

    class Config(Settings):
        classes: int = Field(gt=0, description="scores that come out")
        hidden: int | None = Field(
            None, ge=0, description="features between the maps; two widths if left out, 0 for one map"
        )
        input_norm: bool = Field(False, description="LayerNorm before the first map?")
        norm_eps: float = Field(1e-5, gt=0, description="added to the variance in every LayerNorm")
        init_scale: float = Field(1.0, gt=0, description="what the maps' weights are multiplied with at the start")
        width: int = inferred(description="features that come in")

    parts: Mapping[str, str] = {"first": "first", "last": "last"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden = 2 * config.width if config.hidden is None else config.hidden
        self.input_norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.input_norm else None
        self.first = Linear(config.width, hidden, std=0.02 * config.init_scale) if hidden else None
        self.norm = nn.LayerNorm(hidden, eps=config.norm_eps) if hidden else None
        self.last = Linear(hidden or config.width, config.classes, std=0.02 * config.init_scale)

    def forward(self, x: Annotated[Embedding, "rows width", EACH]) -> Annotated[Logits, "rows classes"]:
        """`[batch, width]` to `[batch, classes]`."""
        inner: Tensor = x.features if self.input_norm is None else self.input_norm(x.features)
        if self.first is not None and self.norm is not None:
            inner = F.gelu(self.norm(self.first(inner)))
        return Logits(self.last(inner))
