"""Scores as probabilities."""

from dataclasses import replace
from typing import Annotated, Any

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import EACH, function
from compose_vlp.values import Logits, Similarity


def _same(_: None, ports: Any) -> Any:
    return ports["x"]


@function("softmax", output=_same)
def softmax(
    x: Annotated[Logits, "rows classes", EACH] | Annotated[Similarity, "rows columns"],
) -> Logits | Similarity:
    """Probabilities over the classes, or over a similarity's columns (a Similarity stays one)."""
    return replace(x, scores=full(x.scores).softmax(-1))
