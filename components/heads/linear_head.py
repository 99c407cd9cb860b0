"""Logits over classes, of each row or of each position."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.linear import Linear
from compose_vlp.components.layers.on_text import text_features
from compose_vlp.graph.types import LogitsType, SequenceType
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Embedding, Logits, Sequence


@component("linear_head", rows="independent", state="none", draws="none", selects=True)
class LinearHead(nn.Module):
    """One linear map to the scores of classes."""

    class Config(Settings):
        classes: int = Field(gt=0, description="scores that come out")
        bias: bool = Field(True, description="has the map a bias?")
        width: int = inferred(description="features that come in")

    parts: Mapping[str, str] = {"weight": "map.weight", "bias": "map.bias"}

    def __init__(self, config: Config) -> None:
        super().__init__()
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
            return Logits(self.map(x.features))
        features, text = text_features(x)
        chosen = features if at is None else features.flatten(0, 1)[at]
        return Logits(self.map(chosen), text, at)

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> LogitsType:
        x = ports["x"]
        if not isinstance(x, SequenceType):
            return LogitsType(x.rows, x.reads, classes=config.classes)
        texts = [p for p in x.parts if p.text is not None]
        if len(texts) == 1:
            return LogitsType(x.rows, texts[0].reads, classes=config.classes, text=texts[0].text)
        name = x.parts[0].name if len(x.parts) == 1 else None
        return LogitsType(x.rows, x.reads, classes=config.classes, part=name)
