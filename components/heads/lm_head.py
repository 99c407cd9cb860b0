"""Logits over the vocabulary at every word, or at chosen ones."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.linear import Linear
from compose_vlp.components.layers.on_text import text_features
from compose_vlp.errors import UserError
from compose_vlp.graph.types import LogitsType
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Logits, Sequence


@component("lm_head", rows="independent", state="none", draws="none", selects=True)
class LMHead(nn.Module):
    """Scores of every word of the vocabulary: the features times a table of words, which may be the input's own.

    With `transform` the features go through a dense layer, GELU and LayerNorm first, as in BERT (Devlin et al. 2019).
    """

    class Config(Settings):
        transform: bool = Field(False, description="dense layer, GELU and LayerNorm before the table")
        bias: bool = Field(False, description="has every word a bias?")
        norm_eps: float = Field(1e-12, gt=0, description="added to the variance in the transform's LayerNorm")
        width: int = inferred(description="features of a position")
        vocab_size: int = inferred("x.vocab_size", description="words of the text that the positions stand on")

    parts: Mapping[str, str] = {"weight": "weight", "bias": "bias", "transform": "transform"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, words = config.width, config.vocab_size
        self.weight = nn.Parameter(torch.empty(words, width))
        nn.init.normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(words)) if config.bias else None
        self.transform = (
            nn.Sequential(Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=config.norm_eps))
            if config.transform
            else None
        )

    def forward(
        self, x: Annotated[Sequence, "rows tokens width", EACH], *, at: Tensor | None = None
    ) -> Annotated[Logits, "rows tokens vocab_size"]:
        """`[batch, tokens, width]` to `[batch, length, vocab_size]`, `length` being that of the text.

        With `at` `[chosen]`, places in the flattened `[batch * length]`, only these: `[chosen, vocab_size]`.
        """
        features, text = text_features(x)
        chosen = features if at is None else features.flatten(0, 1)[at]
        if self.transform is not None:
            chosen = self.transform(chosen)
        return Logits(F.linear(chosen, self.weight, self.bias), text, at)

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> LogitsType:
        x = ports["x"]
        words = [part for part in x.parts if part.text is not None]
        if len(words) != 1:
            raise UserError(
                f"a vocabulary head needs positions of one text; here are {len(words)}",
                hints=[
                    f"parts: {', '.join(part.name for part in x.parts)}; `x.{part.name}` takes one"
                    for part in words[:1]
                ],
            )
        return LogitsType(x.rows, words[0].reads, classes=config.vocab_size, text=words[0].text)
