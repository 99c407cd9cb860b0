"""Kinds of values as the checker sees them: no tensors, only what is known before a weight exists.

The runtime classes of the same names stand in `compose_vlp.values`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Literal


class Flow(IntEnum):
    """Which positions of a text a position can see: itself, itself and earlier ones, or all. The worst wins."""

    EACH = 0
    PAST = 1
    ALL = 2


Reads = Mapping[str, Flow]
"""From the root of a text (an input, or a masker's entry) to the worst way in which its positions reach a value.

An image is a root too, of no order: what a mask hides of it must not reach the scores that foretell it.
"""

ClsPlace = Literal["first", "last", "none"]


@dataclass(frozen=True)
class RowSpace:
    """What one row stands for: a record of a source (`main`), an answer (`answers`), a table's line (`closed`).

    `owner` is the row space that each row belongs to (an answer to a record), reached by the input's `.owner`.
    """

    base: str = "main"
    gathered: bool = False
    queue: str | None = None
    owner: str = ""

    def __str__(self) -> str:
        name = f"gathered {self.base}" if self.gathered else self.base
        return f"{name} + queue {self.queue}" if self.queue else name


def merge_reads(*reads: Reads, at_least: Flow = Flow.EACH) -> dict[str, Flow]:
    """Union of what several values read, each made at least as bad as `at_least`."""
    merged: dict[str, Flow] = {}
    for one in reads:
        for root, flow in one.items():
            merged[root] = max(merged.get(root, Flow.EACH), flow, at_least)
    return merged


@dataclass(frozen=True)
class ValueType:
    """Base of all kinds. `rows` is the row space, `reads` what texts reach it, `origins` the inputs it stands on."""

    kind: ClassVar[str] = "Value"
    dims: ClassVar[tuple[str, ...]] = ("rows",)  # names of its dimensions in the order in which ports write them

    rows: RowSpace = RowSpace()
    reads: Reads = field(default_factory=dict)
    origins: frozenset[str] = frozenset()  # the inputs that it stands on (filled in by the checker)
    moved: frozenset[str] = frozenset()  # those of them whose rows an index has picked anew (filled in by the checker)

    def members(self) -> Mapping[str, ValueType]:
        """The values that `.name` gives without a call: fields of a record, the owner and weight of a text."""
        return {}

    def sizes(self) -> dict[str, int | None]:
        """Named sizes that ports and inferred settings can ask for (`width`, `length`, `vocab_size` ...)."""
        return {}

    def shape(self) -> tuple[str | int, ...]:
        """Shape with symbolic batch, for reports."""
        return (str(self.rows), *(size if size is not None else name for name, size in self.sizes().items()))

    def with_reads(self, reads: Reads) -> ValueType:
        """The same kind of value, reached by other texts."""
        return dataclasses.replace(self, reads=dict(reads))


@dataclass(frozen=True)
class ImageType(ValueType):
    """Square pictures, `size` pixels a side."""

    kind: ClassVar[str] = "Image"
    dims: ClassVar[tuple[str, ...]] = ("rows", "size")
    size: int | None = None
    root: str = ""  # the input that it is

    def sizes(self) -> dict[str, int | None]:
        return {"size": self.size}


@dataclass(frozen=True)
class TextType(ValueType):
    """Token ids. `root` is its identity: the input, or the masker's entry that replaced its words.

    `covers` are the roots of the texts whose words a masker hid in it; `fields` are `owner` and `weight` of texts that
    have rows of their own.
    """

    kind: ClassVar[str] = "Text"
    dims: ClassVar[tuple[str, ...]] = ("rows", "length", "vocab_size")
    tokenizer: str = ""
    length: int | None = None
    vocab_size: int | None = None
    root: str = ""
    covers: frozenset[str] = frozenset()
    fields: Mapping[str, ValueType] = field(default_factory=dict)

    def sizes(self) -> dict[str, int | None]:
        return {"length": self.length, "vocab_size": self.vocab_size}

    def members(self) -> Mapping[str, ValueType]:
        return self.fields


@dataclass(frozen=True)
class Part:
    """A run of positions of a Sequence. `text` is the text that they stand on, where they stand on one."""

    name: str
    length: int | None = None
    cls: ClsPlace = "none"
    text: TextType | None = None
    reads: Reads = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceType(ValueType):
    """Features at positions, in one or several named parts; each part knows what reaches it."""

    kind: ClassVar[str] = "Sequence"
    dims: ClassVar[tuple[str, ...]] = ("rows", "tokens", "width")
    width: int | None = None
    parts: tuple[Part, ...] = ()

    def sizes(self) -> dict[str, int | None]:
        lengths = [part.length for part in self.parts]
        known = [n for n in lengths if n is not None]
        tokens = sum(known) if len(known) == len(lengths) else None
        texts = [part.text for part in self.parts if part.text]
        extra = {"vocab_size": texts[0].vocab_size, "length": texts[0].length} if len(texts) == 1 else {}
        return {"tokens": tokens, "width": self.width, **extra}

    def shape(self) -> tuple[str | int, ...]:
        sizes = self.sizes()
        return (str(self.rows), sizes["tokens"] or "tokens", sizes["width"] or "width")

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True)
class EmbeddingType(ValueType):
    """One vector a row."""

    kind: ClassVar[str] = "Embedding"
    dims: ClassVar[tuple[str, ...]] = ("rows", "width")
    width: int | None = None

    def sizes(self) -> dict[str, int | None]:
        return {"width": self.width}


@dataclass(frozen=True)
class SimilarityType(ValueType):
    """Scores of rows against columns; `sides` are the origins of the two values compared, so that lists can mirror."""

    kind: ClassVar[str] = "Similarity"
    dims: ClassVar[tuple[str, ...]] = ("rows", "columns")
    columns: RowSpace = RowSpace()
    sides: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def shape(self) -> tuple[str | int, ...]:
        return (str(self.rows), str(self.columns))


@dataclass(frozen=True)
class IndexType(ValueType):
    """One row number of `points_at` for each row."""

    kind: ClassVar[str] = "Index"
    points_at: RowSpace = RowSpace()


@dataclass(frozen=True)
class LogitsType(ValueType):
    """Scores over `classes`, one vector a row, or one a position of `text`.

    `positions` is how many there are a row, where that is not the text's length (a CLS among them, or cut off).
    """

    kind: ClassVar[str] = "Logits"
    dims: ClassVar[tuple[str, ...]] = ("rows", "length", "classes")
    classes: int | None = None
    text: TextType | None = None
    part: str | None = None  # the part of a sequence whose positions it stands on, where that is no text
    positions: int | None = None

    @property
    def over_positions(self) -> bool:
        return self.text is not None or self.part is not None

    def sizes(self) -> dict[str, int | None]:
        return {**({"length": self.text.length} if self.text else {}), "classes": self.classes}


@dataclass(frozen=True)
class LabelsType(ValueType):
    """Wanted ids at positions of `text` (masked words), or of a sequence's part (codes)."""

    kind: ClassVar[str] = "Labels"
    dims: ClassVar[tuple[str, ...]] = ("rows", "length", "classes")
    text: TextType | None = None
    classes: int | None = None

    def sizes(self) -> dict[str, int | None]:
        return {**({"length": self.text.length} if self.text else {}), "classes": self.classes}


@dataclass(frozen=True)
class MaskType(ValueType):
    """Hidden positions of an image's patches. `root` is its identity, `covers` the roots of what it hides a part of."""

    kind: ClassVar[str] = "Mask"
    root: str = ""
    covers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NumberType(ValueType):
    """A number or an integer id or label of each row."""

    kind: ClassVar[str] = "Number"


@dataclass(frozen=True)
class ScalarType(ValueType):
    """One number for the whole batch: a loss, or a literal or schedule given to a port."""

    kind: ClassVar[str] = "Scalar"
    dims: ClassVar[tuple[str, ...]] = ()

    def shape(self) -> tuple[str | int, ...]:
        return ()


@dataclass(frozen=True)
class RecordType(ValueType):
    """Several values under names, as a miner or a masker gives them."""

    kind: ClassVar[str] = "Record"
    fields: Mapping[str, ValueType] = field(default_factory=dict)

    def members(self) -> Mapping[str, ValueType]:
        return self.fields


KINDS: dict[str, type[ValueType]] = {
    t.kind: t
    for t in (ImageType, TextType, SequenceType, EmbeddingType, SimilarityType, IndexType, LogitsType, LabelsType,
              MaskType, NumberType, ScalarType, RecordType)
}  # fmt: skip


def one_part(name: str, length: int | None, *, cls: ClsPlace = "none", text: TextType | None = None,
             reads: Iterable[Reads] = (), flow: Flow = Flow.ALL) -> tuple[Part, ...]:  # fmt: skip
    """The parts of a sequence that has a single one."""
    return (Part(name, length, cls, text, merge_reads(*reads, at_least=flow)),)
