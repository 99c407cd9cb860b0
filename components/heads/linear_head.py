"""Logits over classes, of each row or of each position."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Linear
from compose_vlp.components.layers.on_text import text_features
from compose_vlp.registry import EACH, OnText, Settings, component, inferred
from compose_vlp.values import Embedding, Logits, Sequence
from compose_vlp.values.unscored import UnscoredLogits


@component("linear_head", rows="independent", state="none", draws="none", selects=True, chunks=True)
class LinearHead(nn.Module):
    """One linear map to the scores of classes; with `hidden` a map and a ReLU before it, as ALBEF and BLIP judge pairs
    of pictures and entailment."""

    class Config(Settings):
        classes: int = Field(gt=0, description="scores that come out")
        bias: bool = Field(True, description="has the map a bias?")
        hidden: bool = Field(False, description="a map of equal width with a bias, and a ReLU, before it")
        width: int = inferred(description="features that come in")

    parts: Mapping[str, str] = {"weight": "map.weight", "bias": "map.bias", "hidden": "hidden"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hidden = Linear(config.width, config.width, std=0.02) if config.hidden else None
        self.map = Linear(config.width, config.classes, bias=config.bias, std=0.02)

    def forward(
        self,
        x: Annotated[Embedding, "rows width", EACH] | Annotated[Sequence, "rows tokens width", EACH],
        *,
        at: Tensor | None = None,
        scored: bool = True,
    ) -> Annotated[Logits, "rows tokens classes", OnText()]:
        """`[batch, width]` to `[batch, classes]`, or `[batch, tokens, width]` to `[batch, tokens, classes]`.

        With `at` `[chosen]`, places in the flattened `[batch * tokens]`, only these: `[chosen, classes]`. What is
        not `scored` leaves the map to who reads it, where no adapter stands in its place.
        """
        if isinstance(x, Embedding):
            return Logits(self._scores(x.features))
        features, text = text_features(x)
        chosen = features if at is None else features.flatten(0, 1)[at]
        if scored or type(self.map) is not Linear:
            return Logits(self._scores(chosen), text, at)
        return UnscoredLogits(self._inner(chosen), self.map.weight, self.map.bias, text, at)

    def _scores(self, features: Tensor) -> Tensor:
        scores: Tensor = self.map(self._inner(features))
        return scores

    def _inner(self, features: Tensor) -> Tensor:
        return features if self.hidden is None else self.hidden(features).relu()
