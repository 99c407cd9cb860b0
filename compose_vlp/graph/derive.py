"""Types of what costs no component: `.cls`, `.tokens`, a part, and rows picked by an index."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from compose_vlp.graph.types import (
    EmbeddingType,
    Flow,
    IndexType,
    LabelsType,
    LogitsType,
    MaskType,
    NumberType,
    Part,
    Reads,
    RecordType,
    RowSpace,
    SequenceType,
    TextType,
    ValueType,
    merge_reads,
)


def cls_of(value: SequenceType) -> EmbeddingType:
    """The CLS of the first part: it has seen all of the part's positions."""
    reads = merge_reads(value.parts[0].reads, at_least=Flow.ALL) if value.parts else {}
    return EmbeddingType(value.rows, reads, value.origins, value.moved, width=value.width)


def tokens_of(value: SequenceType) -> SequenceType:
    """All positions but the CLS of each part."""
    parts = tuple(
        dataclasses.replace(
            part, cls="none", length=None if part.length is None else part.length - (part.cls != "none")
        )
        for part in value.parts
    )
    return dataclasses.replace(value, parts=parts)


def part_of(value: SequenceType, part: Part) -> SequenceType:
    """The positions of one part."""
    return dataclasses.replace(value, parts=(part,), reads=dict(part.reads))


def indexed(value: ValueType, index: IndexType, mark: str) -> ValueType:
    """`value[index]`: on the rows of the index. Its texts are others now, so they get roots of their own.

    `mark` names the index: two values that one index has moved stand on the same texts.
    """
    moved = renamed(value, lambda root: f"{root}[{mark}]")
    return dataclasses.replace(moved, rows=index.rows, moved=value.moved | value.origins)


def renamed(value: ValueType, name: Callable[[str], str]) -> ValueType:
    """The same type with other roots of texts."""
    changes: dict[str, object] = {"reads": _reads(value.reads, name)}
    match value:
        case TextType():
            changes |= {"root": name(value.root), "covers": frozenset(map(name, value.covers)), "fields": {}}
        case SequenceType():
            changes["parts"] = tuple(
                dataclasses.replace(part, text=_text(part.text, name), reads=_reads(part.reads, name))
                for part in value.parts
            )
        case LogitsType() | LabelsType():
            changes["text"] = _text(value.text, name)
        case MaskType():
            changes |= {"root": name(value.root), "covers": frozenset(map(name, value.covers))}
        case RecordType():
            changes["fields"] = {key: renamed(inner, name) for key, inner in value.fields.items()}
    return dataclasses.replace(value, **changes)  # type: ignore[arg-type]


def _text(text: TextType | None, name: Callable[[str], str]) -> TextType | None:
    renamed_text = renamed(text, name) if text else None
    assert renamed_text is None or isinstance(renamed_text, TextType)
    return renamed_text


def _reads(reads: Reads, name: Callable[[str], str]) -> dict[str, Flow]:
    return {name(root): flow for root, flow in reads.items()}


def queued(value: ValueType, queue: str) -> ValueType:
    """Give a value that a component with a state returns: the rows behind the batch's are those of that queue."""
    rows = dataclasses.replace(value.rows, queue=queue) if value.rows.queue else value.rows
    if isinstance(value, RecordType):
        fields = {key: queued(inner, queue) for key, inner in value.fields.items()}
        return dataclasses.replace(value, rows=rows, fields=fields)
    return dataclasses.replace(value, rows=rows)


def masked(value: ValueType, root: str, covers: frozenset[str]) -> ValueType:
    """Give what a masker returns: its texts have a root of their own, and cover those that they were made from."""
    match value:
        case TextType():
            return dataclasses.replace(value, root=root, covers=covers, reads={root: Flow.EACH}, fields={})
        case LabelsType(text=TextType() as text):
            hidden = masked(text, root, covers)
            assert isinstance(hidden, TextType)
            return dataclasses.replace(value, text=hidden, reads={})
        case MaskType():
            return dataclasses.replace(value, root=root, covers=covers, reads={})
        case RecordType():
            texts = [key for key, inner in value.fields.items() if isinstance(inner, TextType)]
            inner_root = f"{root}.{texts[0]}" if texts else root
            fields = {key: masked(inner, inner_root, covers) for key, inner in value.fields.items()}
            return dataclasses.replace(value, fields=fields, reads={})
    return value


def many_fields(name: str, rows: RowSpace, of: RowSpace) -> Mapping[str, ValueType]:
    """`.owner` and `.weight` of an input that gives several texts or classes a record."""
    origins = frozenset({name})
    return {
        "owner": IndexType(rows, origins=origins, points_at=of),
        "weight": NumberType(rows, origins=origins),
    }


def table_fields(name: str, rows: RowSpace) -> Mapping[str, ValueType]:
    """`.owner` of an input that is a table: its line, which templates share."""
    return {"owner": IndexType(rows, origins=frozenset({name}), points_at=RowSpace(f"lines of {name}"))}
