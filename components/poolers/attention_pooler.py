"""Pooling by attention: learned queries look at a sequence."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import CrossAttention, Scope, View, heads_divide_width
from compose_vlp.graph.kinds import Clash
from compose_vlp.registry import ALL, AsPart, Settings, component, inferred
from compose_vlp.values import Part, Sequence


@component("attention_pooler", rows="independent", state="none", draws="none")
class AttentionPooler(nn.Module):
    """One multi-head attention layer with learned queries over a sequence (CoCa, Yu et al. 2022, 3.2).

    Queries and sequence are normed before it, its output after it; there is no residual and no MLP. Poolers in cascade
    are the paper's; open_clip has one, whose first query is the image's embedding: `cls: first`.
    """

    class Config(Settings):
        queries: int = Field(gt=0, description="learned queries: positions that come out")
        heads: int = Field(8, gt=0, description="attention heads; they divide the width that comes out")
        width: int | None = Field(None, gt=0, description="features that come out; as many as come in if left out")
        cls: Literal["first", "none"] = Field("none", description="is the first query's output the CLS of the others?")
        norm_eps: float = Field(1e-5, gt=0, description="added to the variance in every LayerNorm")
        input_width: int = inferred(description="features of what is pooled")

    parts: Mapping[str, str] = {"queries": "queries", "attention": "attention"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width or config.input_width
        self.queries = nn.Parameter(torch.empty(config.queries, width))
        nn.init.normal_(self.queries, std=width**-0.5)
        self.query_norm = nn.LayerNorm(width, eps=config.norm_eps)
        norm = nn.LayerNorm(config.input_width, eps=config.norm_eps)
        self.attention = CrossAttention(width, config.heads, config.input_width, norm=norm)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)

    def forward(
        self, x: Annotated[Sequence, "rows tokens input_width", ALL]
    ) -> Annotated[Sequence, "rows queries width|input_width", AsPart("pooled", cls="cls")]:
        """`[batch, tokens, input_width]` to `[batch, queries, width]`; padding is not looked at."""
        queries = self.query_norm(self.queries).expand(x.features.shape[0], -1, -1)
        keys = self.attention.keys_values(x.features)
        pooled: Tensor = self.norm(self.attention(queries, Scope(), View(keys, x.valid)))
        return Sequence(pooled, (Part("pooled", 0, pooled.shape[1], self.config.cls),))

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        return heads_divide_width(config, width="input_width" if config.width is None else "width")
