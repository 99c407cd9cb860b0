"""Scores as probabilities."""

from dataclasses import replace
from typing import Annotated

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import EACH, Like, function
from compose_vlp.values import Logits, Similarity


@function("softmax")
def softmax(
    x: Annotated[Logits, "rows classes", EACH] | Annotated[Similarity, "rows columns"],
) -> Annotated[Logits | Similarity, Like("x")]:
    """Probabilities over the classes, or over a similarity's columns (a Similarity stays one)."""
    return replace(x, scores=full(x.scores).softmax(-1))
