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
    """The positions of a text that a position can see: itself, itself and earlier ones, or all. The worst wins."""

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
    """The meaning of one row: a record of a source (`main`), an answer (`answers`), a table's line (`closed`).

    `owner` is the row space that each row belongs to (an answer to a record), reached by the input's `.owner`.
    """

    base: str = "main"
    gathered: bool = False
    queue: str | None = None
    owner: str = ""

    def __str__(self) -> str:
        name = f"gathered {self.base}" if self.gathered else self.base
        return f"{name} + queue {self.queue}" if self.queue else name


Grid = tuple[int, int]
"""Rows and columns of the patches of a picture."""


@dataclass(frozen=True)
class Count:
    """How many positions a value has in each row; nothing of it is known by default.

    `fixed` are there in every batch; beside these there are as many as the longest text of the batch has, for each
    input in `follows`. `most` is the most of them all, `grid` how those of a picture lie.
    """

    most: int | None = None
    fixed: int | None = None
    follows: tuple[str, ...] = ()
    grid: Grid | None = None

    def may_be(self, other: Count) -> bool:
        """Tell whether nothing says that the two are different."""
        if self.fixed is None or other.fixed is None:
            return True
        if self.grid is not None and other.grid is not None and self.grid != other.grid:
            return False
        return self.fixed == other.fixed and self.follows == other.follows

    def __str__(self) -> str:
        """`196 positions (14 x 14)`, `up to 16 positions: the longest `caption` of a batch and 1 more`."""
        if not self.follows:
            grid = f"{self.grid[0]} x {self.grid[1]}" if self.grid else ""
            cls = " and a CLS" if self.grid and self.grid[0] * self.grid[1] != self.most else ""
            return f"{self.most} positions" + (f" ({grid}{cls})" if grid else "")
        texts = " and the ".join(f"longest {text}" for text in self.follows)
        rest = self.fixed or 0
        more = f" and {rest} more" if rest > 0 else f" but {-rest}" if rest < 0 else ""
        return f"up to {self.most} positions: the {texts} of a batch{more}"


UNKNOWN = Count()


def merge_reads(*reads: Reads, at_least: Flow = Flow.EACH) -> dict[str, Flow]:
    """Union of what several values read, each made at least as bad as `at_least`."""
    merged: dict[str, Flow] = {}
    for value_reads in reads:
        for root, flow in value_reads.items():
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

    def at(self, path: Iterable[str]) -> ValueType:
        """The value behind these names, one after the other; this one itself where there are none."""
        value: ValueType = self
        for name in path:
            value = value.members()[name]
        return value

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
    padding: str = ""  # what sets the padded length of a batch (an input, as messages call it); "": always `length`

    @property
    def count(self) -> Count:
        if self.length is None:
            return UNKNOWN
        return Count(self.length, 0, (self.padding,)) if self.padding else Count(self.length, self.length)

    def sizes(self) -> dict[str, int | None]:
        return {"length": self.length, "vocab_size": self.vocab_size}

    def members(self) -> Mapping[str, ValueType]:
        return self.fields


@dataclass(frozen=True)
class Part:
    """A run of positions of a Sequence. `text` is the text that they stand on, where they stand on one.

    `length` counts a CLS among them, `grid` does not.
    """

    name: str
    length: int | None = None
    cls: ClsPlace = "none"
    text: TextType | None = None
    reads: Reads = field(default_factory=dict)
    grid: Grid | None = None

    @property
    def count(self) -> Count:
        if self.length is None:
            return UNKNOWN
        if self.text is None or not self.text.padding:
            return Count(self.length, self.length, grid=self.grid)
        if self.text.length is None:
            return UNKNOWN
        return Count(self.length, self.length - self.text.length, (self.text.padding,))


def count_of(parts: Iterable[Part]) -> Count:
    """Positions of several parts together."""
    counts = [part.count for part in parts]
    if len(counts) == 1:
        return counts[0]
    most, fixed = ([getattr(count, which) for count in counts] for which in ("most", "fixed"))
    if not counts or None in most or None in fixed:
        return UNKNOWN
    return Count(sum(most), sum(fixed), tuple(sorted(text for count in counts for text in count.follows)))


@dataclass(frozen=True)
class SequenceType(ValueType):
    """Features at positions, in one or several named parts; each part knows what reaches it."""

    kind: ClassVar[str] = "Sequence"
    dims: ClassVar[tuple[str, ...]] = ("rows", "tokens", "width")
    width: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def count(self) -> Count:
        return count_of(self.parts)

    def sizes(self) -> dict[str, int | None]:
        tokens = self.count.most
        texts = [part.text for part in self.parts if part.text]
        extra = {"vocab_size": texts[0].vocab_size, "length": texts[0].length} if len(texts) == 1 else {}
        grids = [part.grid for part in self.parts if part.grid]
        if len(set(grids)) == 1 and grids[0][0] == grids[0][1]:
            extra["grid"] = grids[0][0]
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
    """Scores over `classes`, one vector a row, or one a position: of `text`, or of the `part` of a sequence.

    `counted` says how many positions there are, where that is not the text's length.
    """

    kind: ClassVar[str] = "Logits"
    dims: ClassVar[tuple[str, ...]] = ("rows", "length", "classes")
    classes: int | None = None
    text: TextType | None = None
    part: str | None = None  # the part of a sequence whose positions it stands on, where that is no text
    counted: Count | None = None

    @property
    def count(self) -> Count | None:
        """Its positions; None for one vector a row."""
        return _positions(self)

    @property
    def over_positions(self) -> bool:
        return self.count is not None

    def sizes(self) -> dict[str, int | None]:
        return {**({"length": self.count.most} if self.count else {}), "classes": self.classes}


@dataclass(frozen=True)
class LabelsType(ValueType):
    """Wanted ids at positions of `text` (masked words), or of a sequence's `part` (codes), of which `counted` says how
    many there are."""

    kind: ClassVar[str] = "Labels"
    dims: ClassVar[tuple[str, ...]] = ("rows", "length", "classes")
    text: TextType | None = None
    classes: int | None = None
    part: str | None = None
    counted: Count | None = None

    @property
    def count(self) -> Count:
        return _positions(self) or UNKNOWN

    def sizes(self) -> dict[str, int | None]:
        return {"length": self.count.most, "classes": self.classes}


def _positions(value: LogitsType | LabelsType) -> Count | None:
    if value.counted is not None:
        return value.counted
    if value.text is not None:
        return value.text.count
    return None if value.part is None else UNKNOWN


@dataclass(frozen=True)
class MaskType(ValueType):
    """Hidden positions of an image's patches. `root` is its identity, `covers` the roots of what it hides a part of."""

    kind: ClassVar[str] = "Mask"
    dims: ClassVar[tuple[str, ...]] = ("rows", "patches")
    root: str = ""
    covers: frozenset[str] = frozenset()
    count: Count = UNKNOWN

    def sizes(self) -> dict[str, int | None]:
        return {"patches": self.count.most}


@dataclass(frozen=True)
class NumberType(ValueType):
    """A number or an integer id or label of each row; of a label, how many `classes` there are.

    `fields` are `owner` and `weight` of labels that have rows of their own.
    """

    kind: ClassVar[str] = "Number"
    dims: ClassVar[tuple[str, ...]] = ("rows", "classes")
    classes: int | None = None
    fields: Mapping[str, ValueType] = field(default_factory=dict)

    def members(self) -> Mapping[str, ValueType]:
        return self.fields

    def sizes(self) -> dict[str, int | None]:
        return {"classes": self.classes}

    def shape(self) -> tuple[str | int, ...]:
        return (str(self.rows),)


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
             reads: Iterable[Reads] = (), flow: Flow = Flow.ALL,
             grid: Grid | None = None) -> tuple[Part, ...]:  # fmt: skip
    """The parts of a sequence that has a single one."""
    return (Part(name, length, cls, text, merge_reads(*reads, at_least=flow), grid),)
