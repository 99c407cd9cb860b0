"""Values of a few rows of given types, for trying a component on them before anything relies on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from compose_vlp.graph.types import (
    EmbeddingType,
    ImageType,
    IndexType,
    LabelsType,
    LogitsType,
    NumberType,
    RecordType,
    ScalarType,
    SequenceType,
    SimilarityType,
    TextType,
    ValueType,
)
from compose_vlp.values import (
    Embedding,
    Image,
    Index,
    Labels,
    Logits,
    Number,
    Part,
    Record,
    Scalar,
    Sequence,
    Similarity,
    Text,
)

ROWS: Final = 3
LARGE: Final = 64
"""Sizes up to this stay as they are."""
UNKNOWN: Final = 6
"""Positions, classes or features where a type does not say how many."""
WORDS: Final = 20
"""Words of a vocabulary whose size only a file knows."""


class CannotMakeError(Exception):
    """A type does not say enough to make a value of it."""


def shrunk(value: Any, by: int) -> Any:
    """The same settings, or the same type, with every size above `LARGE` divided by `by`: equal ones stay equal."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value <= LARGE else value // by
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: shrunk(getattr(value, field.name), by) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    if isinstance(value, Mapping):
        return {key: shrunk(inner, by) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(shrunk(inner, by) for inner in value)
    return value


class Maker:
    """Makes values of types, always the same ones; what stands on one text stands on the same words."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._texts: dict[str, Text] = {}

    def value(self, kind: ValueType) -> Any:
        """A value of `ROWS` rows.

        Raises:
            CannotMakeError: the type does not say enough.
        """
        match kind:
            case ImageType():
                size = kind.size or 32
                return Image(self._normal(ROWS, 3, size, size))
            case TextType():
                return self._text(kind)
            case SequenceType():
                return self._sequence(kind)
            case EmbeddingType():
                return Embedding(self._normal(ROWS, kind.width or UNKNOWN), gathered=kind.rows.gathered)
            case SimilarityType():
                return Similarity(self._normal(ROWS, ROWS))
            case IndexType():
                return Index(torch.arange(ROWS).flip(0))
            case LogitsType():
                return self._logits(kind)
            case LabelsType():
                return self._labels(kind)
            case NumberType():
                return Number(torch.arange(ROWS) % 2)
            case ScalarType():
                return Scalar(torch.tensor(0.5))
            case RecordType():
                return Record(**{name: self.value(inner) for name, inner in kind.fields.items()})
        raise CannotMakeError(f"how large a {kind.kind} is does not follow from the graph")

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def _text(self, kind: TextType) -> Text:
        """Texts of several lengths, the first one as long as its frame."""
        if kind.root not in self._texts:
            length, words = kind.length or UNKNOWN, kind.vocab_size or WORDS
            lengths = torch.tensor([max(length * (ROWS - row) // ROWS, 1) for row in range(ROWS)])
            ids = torch.randint(min(4, words - 1), words, (ROWS, length), generator=self._generator)
            padding = torch.arange(length) >= lengths[:, None]
            self._texts[kind.root] = Text(ids.masked_fill(padding, 0), lengths, length)
        return self._texts[kind.root]

    def _sequence(self, kind: SequenceType) -> Sequence:
        parts: list[Part] = []
        masks: list[Tensor] = []
        start = 0
        for part in kind.parts:
            text = None if part.text is None else self._text(part.text)
            words = torch.ones(ROWS, 0, dtype=torch.bool) if text is None else text.valid
            length = part.length or (words.shape[1] + (part.cls == "last") if text is not None else UNKNOWN)
            parts.append(Part(part.name, start, length, part.cls, text))
            masks.append(torch.cat((words, words.new_ones(ROWS, length)), 1)[:, :length])
            start += length
        padded = any(part.text is not None for part in parts)
        features = self._normal(ROWS, start, kind.width or UNKNOWN)
        return Sequence(features, tuple(parts), torch.cat(masks, 1) if padded else None)

    def _logits(self, kind: LogitsType) -> Logits:
        classes = kind.classes or UNKNOWN
        if not kind.over_positions:
            return Logits(self._normal(ROWS, classes))
        text = None if kind.text is None else self._text(kind.text)
        most = kind.count.most if kind.count is not None else None
        length = most or (UNKNOWN if text is None else text.ids.shape[1])
        return Logits(self._normal(ROWS, length, classes), text)

    def _labels(self, kind: LabelsType) -> Labels:
        """Every third word is asked for."""
        text = None if kind.text is None else self._text(kind.text)
        shape = (ROWS, kind.count.most or UNKNOWN) if text is None else tuple(text.ids.shape)
        words = (kind.text.vocab_size if kind.text is not None else None) or kind.classes or UNKNOWN
        ids = torch.randint(0, words, shape, generator=self._generator)
        asked = (torch.arange(shape[0] * shape[1]) % 3 == 0).reshape(shape)
        return Labels(ids.masked_fill(~asked, -100))
