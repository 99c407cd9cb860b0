"""The kinds of values that components take and give, as tensors. Their static twins: `compose_vlp.graph.types`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as List
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Value:
    """Base of all kinds; in an annotation: any of them."""

    kind: ClassVar[str] = "Value"

    def to(self, device: torch.device | str) -> Any:
        """Give the same value with its tensors on another device (asynchronously from pinned memory)."""
        return pytree.tree_map_only(Tensor, lambda t: t.to(device, non_blocking=True), self)


@dataclass(frozen=True)
class Image(Value):
    """`pixels` [batch, channels, height, width], normalised."""

    kind: ClassVar[str] = "Image"
    pixels: Tensor


@dataclass(frozen=True)
class Text(Value):
    """Token ids of a batch, trimmed to its longest text.

    `ids` [batch, length] with `pad` after each text's end; `lengths` [batch], begin and end tokens counted;
    `frame` is the length for which positions were made (the blueprint's `max_length`); `given` [batch] (or None)
    counts leading tokens that nobody has to foretell (a prompt); `offset` positions came in earlier calls (generation).
    """

    kind: ClassVar[str] = "Text"
    ids: Tensor
    lengths: Tensor
    frame: int
    pad: int = 0
    given: Tensor | None = None
    offset: int = 0

    @property
    def valid(self) -> Tensor:
        """[batch, length], true at words, false at padding."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]


@dataclass(frozen=True)
class Part:
    """A run of positions of a Sequence: `start` and `length` count its (padded) places, CLS included."""

    name: str
    start: int
    length: int
    cls: Literal["first", "last", "none"] = "none"
    text: Text | None = None


@dataclass(frozen=True)
class Sequence(Value):
    """Features at positions: `features` [batch, tokens, width], in named parts one after the other.

    `valid` [batch, tokens] is false at padding, None where every position counts.
    """

    kind: ClassVar[str] = "Sequence"
    features: Tensor
    parts: tuple[Part, ...]
    valid: Tensor | None = None

    def with_features(self, features: Tensor) -> Sequence:
        """Give the same positions other features [batch, tokens, any width]."""
        return dataclasses.replace(self, features=features)

    @property
    def cls(self) -> Embedding:
        """Take the CLS of the first part, [batch, width]."""
        part = self.parts[0]
        if part.cls == "none":
            raise ValueError("this Sequence has no CLS")
        place = part.start if part.cls == "first" else part.start + part.length - 1
        return Embedding(self.features[:, place])

    @property
    def tokens(self) -> Sequence:
        """All positions but the CLS of each part."""
        kept: list[slice] = []
        parts: list[Part] = []
        start = 0
        for p in self.parts:
            begin = p.start + (p.cls == "first")
            length = p.length - (p.cls != "none")
            kept.append(slice(begin, begin + length))
            parts.append(Part(p.name, start, length, "none", p.text))
            start += length
        return self._cut(kept, tuple(parts))

    def part(self, name: str) -> Sequence:
        """Take the positions of one part."""
        p = next(p for p in self.parts if p.name == name)
        return self._cut([slice(p.start, p.start + p.length)], (dataclasses.replace(p, start=0),))

    def _cut(self, kept: List[slice], parts: tuple[Part, ...]) -> Sequence:
        features = torch.cat([self.features[:, k] for k in kept], 1) if len(kept) > 1 else self.features[:, kept[0]]
        valid = self.valid
        if valid is not None:
            valid = torch.cat([valid[:, k] for k in kept], 1) if len(kept) > 1 else valid[:, kept[0]]
        return Sequence(features, parts, valid)


@dataclass(frozen=True)
class Embedding(Value):
    """One vector a row: `features` [rows, width].

    `own` is where this process's rows start among gathered ones; the last `queued` rows are of earlier batches.
    `gathered` says that the rows are those of all processes.
    """

    kind: ClassVar[str] = "Embedding"
    features: Tensor
    own: int = 0
    queued: int = 0
    gathered: bool = False


@dataclass(frozen=True)
class Similarity(Value):
    """`scores` [rows, columns], divided by the temperature; row i belongs to column `own + i`.

    The last `queued` columns are of earlier batches.
    """

    kind: ClassVar[str] = "Similarity"
    scores: Tensor
    own: int = 0
    queued: int = 0


@dataclass(frozen=True)
class Index(Value):
    """`rows` [batch]: the row of another value that goes with each row."""

    kind: ClassVar[str] = "Index"
    rows: Tensor


@dataclass(frozen=True)
class Logits(Value):
    """Scores over classes: `scores` [batch, classes] or [batch, positions, classes].

    Where a head was asked for chosen positions only, `scores` is [chosen, classes] and `at` [chosen] holds their
    places in the flattened [batch * positions].
    """

    kind: ClassVar[str] = "Logits"
    scores: Tensor
    text: Text | None = None
    at: Tensor | None = None

    @property
    def classes(self) -> int:
        """Count the classes that there are scores of."""
        return self.scores.shape[-1]


@dataclass(frozen=True)
class Labels(Value):
    """Wanted ids [batch, positions], -100 where nothing is asked."""

    kind: ClassVar[str] = "Labels"
    ids: Tensor


@dataclass(frozen=True)
class Mask(Value):
    """`hidden` [batch, patches], true where a patch is hidden."""

    kind: ClassVar[str] = "Mask"
    hidden: Tensor


@dataclass(frozen=True)
class Number(Value):
    """A number, id or label of each row: `values` [batch]."""

    kind: ClassVar[str] = "Number"
    values: Tensor


@dataclass(frozen=True)
class Scalar(Value):
    """One number of the whole batch, [] (a loss).

    `count` [] is the number of terms that it is the mean of, None where these are the rows: means of several processes,
    or of pieces of a batch, are weighed by it.
    """

    kind: ClassVar[str] = "Scalar"
    value: Tensor
    count: Tensor | None = None


class Record(SimpleNamespace):
    """Several values under names that only a blueprint knows, as attributes."""

    kind: ClassVar[str] = "Record"


def rows_of(values: Any) -> int:
    """Count the rows of a value, or of a batch of them: the first dimension of its first tensor."""
    return next(int(leaf.shape[0]) for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor))


def _register(cls: type[Any]) -> None:
    fields = [f.name for f in dataclasses.fields(cls)]

    def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
        contents = [getattr(value, name) for name in fields]
        leaves = [c if _holds_tensors(c) else None for c in contents]
        return leaves, tuple(None if _holds_tensors(c) else (c,) for c in contents)

    def unflatten(leaves: Any, constant: tuple[Any, ...]) -> Any:
        contents = [leaf if fixed is None else fixed[0] for leaf, fixed in zip(leaves, constant, strict=True)]
        return cls(**dict(zip(fields, contents, strict=True)))

    pytree.register_pytree_node(cls, flatten, unflatten, serialized_type_name=f"compose_vlp.values.{cls.__name__}")


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, Tensor | Value | Part | tuple)


for _cls in (Image, Text, Part, Sequence, Embedding, Similarity, Index, Logits, Labels, Mask, Number, Scalar):
    _register(_cls)

pytree.register_pytree_node(
    Record,
    lambda record: (list(vars(record).values()), tuple(vars(record))),
    lambda values, names: Record(**dict(zip(names, values, strict=True))),
    serialized_type_name="compose_vlp.values.Record",
)


def as_list(given: Any) -> list[Any]:
    """List the values of a port that takes several: a list of them, or the one that was written; none of None."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
