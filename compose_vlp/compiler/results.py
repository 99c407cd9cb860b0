"""Is what a component gave of the type that was foretold?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from compose_vlp import values
from compose_vlp.graph.types import (
    EmbeddingType,
    LogitsType,
    RecordType,
    SequenceType,
    SimilarityType,
    ValueType,
)


def mismatch(result: Any, expected: ValueType) -> str:
    """Say what is wrong with a result, as the rest of a sentence; empty where nothing is."""
    if isinstance(expected, RecordType):
        return _of_record(result, expected)
    value_class = getattr(values, expected.kind)
    if not isinstance(result, value_class):
        return f"gives {_named(result)} where {_article(expected.kind)} is annotated"
    tensor, dims = _measured(result, expected)
    if tensor is None:
        return ""
    if not isinstance(tensor, Tensor):
        return f"gives {_article(expected.kind)} of {_named(tensor)}, which has to hold a tensor"
    if len(tensor.shape) != len(dims):
        names = ", ".join(name for name, _ in dims)
        return f"gives {_article(expected.kind)} of shape {list(tensor.shape)}, where [{names}] is annotated"
    for size, (name, known) in zip(tensor.shape, dims, strict=True):
        if known is not None and size != known:
            return f"gives {_article(expected.kind)} with {name} {size}, where {known} follows from its annotation"
    return ""


def _of_record(result: Any, expected: RecordType) -> str:
    for name, kind in expected.fields.items():
        if not hasattr(result, name):
            return f"gives {_named(result)} without the field {name!r}, which is annotated"
        wrong = mismatch(getattr(result, name), kind)
        if wrong:
            return f"{wrong}, as its field {name!r}"
    return ""


def _measured(result: Any, expected: ValueType) -> tuple[Any, list[tuple[str, int | None]]]:
    """The tensor that matters and its dimensions with the sizes that are known; nothing of kinds that have none."""
    if isinstance(expected, SequenceType):
        places = sum(part.length for part in result.parts)
        return result.features, [("rows", None), ("tokens", places), ("width", expected.width)]
    if isinstance(expected, EmbeddingType):
        return result.features, [("rows", None), ("width", expected.width)]
    if isinstance(expected, SimilarityType):
        return result.scores, [("rows", None), ("columns", None)]
    if isinstance(expected, LogitsType):
        positions: list[tuple[str, int | None]] = [("positions", None)] if expected.over_positions else []
        return result.scores, [("rows", None), *positions, ("classes", expected.classes)]
    if expected.kind == "Scalar":
        return result.value, []
    return None, []


def _named(result: Any) -> str:
    if isinstance(result, Tensor):
        return f"a Tensor {list(result.shape)}"
    return "nothing (None)" if result is None else _article(type(result).__name__)


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "AEIOaeio" else f"a {word}"
