"""Results that are what came in: the type of a value, or of several that are made one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Like
from compose_vlp.graph.types import (
    EmbeddingType,
    LogitsType,
    Part,
    Reads,
    SequenceType,
    SimilarityType,
    ValueType,
    merge_reads,
)


def values_of(argument: Any) -> tuple[ValueType, ...]:
    """The values in an argument: none in a literal, several in a list."""
    if isinstance(argument, ValueType):
        return (argument,)
    if isinstance(argument, tuple):
        return tuple(item for item in argument if isinstance(item, ValueType))
    return ()


def alike(like: Like, arguments: Mapping[str, Any], width: int | None) -> ValueType:
    """The type of a result that is as a port's value, of this width where the remark names one.

    Raises:
        UserError: several values do not go together, or only vectors could have the rows of an owner.
    """
    result: Any = merged(values_of(arguments[like.port]))
    if like.width:
        result = replace(result, width=width)
    owner = arguments.get(like.rows) if like.rows else None
    if owner is None:
        return result  # type: ignore[no-any-return] # one of the kinds
    if not isinstance(result, EmbeddingType):
        hints = ["`mean(x)` makes one of a sequence"] if isinstance(result, SequenceType) else []
        raise UserError(f"only vectors are put together by their {like.rows}", hints=hints)
    return replace(result, rows=owner.points_at)


def merged(values: tuple[Any, ...]) -> Any:
    """The type of the first value, reached by what reaches any of them, position by position.

    Raises:
        UserError: they are of several kinds or forms, or stand on several texts.
    """
    kinds = {value.kind for value in values}
    if len(kinds) > 1:
        raise UserError(f"takes values of one kind; these are {' and '.join(sorted(kinds))}")
    reads = merge_reads(*(value.reads for value in values))
    first = values[0]
    if isinstance(first, SimilarityType):
        return replace(first, reads=reads, sides=_sides(values))
    if isinstance(first, LogitsType):
        return _scored(values, reads)
    if not isinstance(first, SequenceType):
        return replace(first, reads=reads)
    parts = tuple(
        replace(part, reads=merge_reads(part.reads, *(_part_reads(value, i) for value in values[1:])))
        for i, part in enumerate(first.parts)
    )
    return replace(first, reads=reads, parts=parts)


def _sides(values: tuple[SimilarityType, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Give what all of them compare with what.

    Raises:
        UserError: one goes from rows to columns, another back.
    """
    first = values[0].sides
    for value in values[1:]:
        if value.sides != first and value.sides == first[::-1]:
            raise UserError("takes scores of one direction; one of these goes from rows to columns, another back")
    rows, columns = zip(*(value.sides for value in values), strict=True)
    return frozenset().union(*rows), frozenset().union(*columns)


def _scored(values: tuple[LogitsType, ...], reads: Reads) -> LogitsType:
    """Logits of one text, or of none.

    Raises:
        UserError: they stand on several.
    """
    shapes = {value.over_positions for value in values}
    if len(shapes) > 1:
        raise UserError("takes logits of one form; some of these have positions, others one vector a row")
    texts = {value.text.root if value.text is not None else "" for value in values}
    if len(texts) > 1:
        words = " and ".join(f"`{text}`" if text else "no text" for text in sorted(texts))
        raise UserError(f"takes logits that stand on one text; these stand on {words}")
    return replace(values[0], reads=reads)


def _part_reads(value: SequenceType, index: int) -> Mapping[str, Any]:
    part: Part | None = value.parts[index] if index < len(value.parts) else None
    return value.reads if part is None else part.reads
