"""Logits over classes, of each row or of each position."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.linear import Linear
from compose_vlp.components.layers.on_text import text_features
from compose_vlp.graph.signature import logits_on_text, logits_over
from compose_vlp.graph.types import LogitsType, SequenceType
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Embedding, Logits, Sequence


@component("linear_head", rows="independent", state="none", draws="none", selects=True)
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
    ) -> Annotated[Logits, "rows classes"]:
        """`[batch, width]` to `[batch, classes]`, or `[batch, tokens, width]` to `[batch, tokens, classes]`.

        With `at` `[chosen]`, places in the flattened `[batch * tokens]`, only these: `[chosen, classes]`.
        """
        if isinstance(x, Embedding):
            return Logits(self._scores(x.features))
        features, text = text_features(x)
        chosen = features if at is None else features.flatten(0, 1)[at]
        return Logits(self._scores(chosen), text, at)

    def _scores(self, features: Tensor) -> Tensor:
        inner = features if self.hidden is None else self.hidden(features).relu()
        scores: Tensor = self.map(inner)
        return scores

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> LogitsType:
        x = ports["x"]
        words = [part for part in x.parts if part.text is not None] if isinstance(x, SequenceType) else []
        if len(words) == 1:
            return logits_on_text(x.rows, words[0], config.classes)
        return logits_over(x.parts if isinstance(x, SequenceType) else None, x.rows, x.reads, config.classes)
