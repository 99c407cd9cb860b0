"""Types of values in the words of reports and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from compose_vlp.graph.types import RecordType, ValueType

BATCH = "B"
"""The rows of a step's records, on this process."""


def shape_words(kind: str, shape: Sequence[str | int]) -> str:
    """`B × 64 × 768`; of an image with its channels. The rows of all processes are `all B`."""
    if not shape:
        return ""
    rows, *rest = shape
    if kind == "Image":
        rest = [3, *rest, *rest]
    if kind == "Text":
        rest = rest[:1]  # the vocabulary is no dimension of the ids
    if kind == "Similarity":
        rest = [row_words(str(size)) for size in rest]
    return " × ".join([row_words(str(rows)), *map(str, rest)])


def row_words(rows: str) -> str:
    """`main` is `B`, `gathered main` is `all B`, `main + queue memory` is `B + memory`; other row spaces stay."""
    base, _, queue = rows.partition(" + queue ")
    name = base.removeprefix("gathered ")
    words = BATCH if name == "main" else name
    words = f"all {words}" if base.startswith("gathered ") else words
    return f"({words} + {queue})" if queue else words


def type_words(value: ValueType) -> str:
    """`Sequence B × 64 × 768`; of several values under names, these."""
    if isinstance(value, RecordType):
        return f"Record: {', '.join(value.members())}"
    return f"{value.kind} {shape_words(value.kind, value.shape())}".strip()
