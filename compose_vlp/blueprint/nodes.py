"""What a blueprint's text becomes before it means anything: scalars, items and mappings that know their place.

Every node carries the `Span` that it was read from, so a value's span *is* its provenance: after merging, a field of
ALBEF inside BLIP still says `albef.yaml:31`, and one that came from an override says `command line:2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from compose_vlp.errors import Span

COMMAND_LINE = "command line"
"""The file name of the source that overrides are read from; its line `n` is the n-th override."""

BROKEN = "broken"
"""The style of a scalar that YAML cut apart: it was reported already, and its text is only good to be shown."""

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)|.", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Source:
    """A text with its name as the user wrote it; `lines` are cut where YAML cuts them."""

    name: str
    text: str = field(repr=False)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        return tuple(_BREAK.split(self.text))

    def offset(self, line: int) -> int:
        """Find where in `text` the line begins (the first is 1)."""
        return 0 if line == 1 else [line_break.end() for line_break in _BREAK.finditer(self.text)][line - 2]

    def span(self, line: int, column: int, end_column: int | None = None) -> Span:
        """The piece from `column` to `end_column` (exclusive; the line's end if left out) of `line`, counted from 1."""
        if end_column is None:
            text = self.lines[line - 1] if line <= len(self.lines) else ""
            end_column = len(text.rstrip()) + 1
        return Span(self.name, line, column, max(end_column, column + 1))


@dataclass(frozen=True)
class Scalar:
    """A value as text, untyped until its destination reads it.

    `style` is plain, single, double, literal, folded or broken; `rows` counts the lines that it was written on.
    """

    text: str
    span: Span
    style: str = "plain"
    rows: int = field(default=1, compare=False)
    source: Source | None = field(default=None, compare=False, repr=False)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was written (`key:`), which is not the empty string (`key: ""`)."""
        return not self.text and self.style == "plain"

    @property
    def is_broken(self) -> bool:
        """Tell whether a mistake was reported for this very value, so that nothing more is to be said about it."""
        return self.style == BROKEN

    @property
    def is_exact(self) -> bool:
        """Tell whether every character has a place: a scalar of one line, or a `|` block."""
        return self.style == "literal" or (self.style != "folded" and self.rows == 1)

    def place(self, start: int, end: int | None = None) -> Span:
        """The span of `text[start:end]` (its first line's part), through quotes, escapes and `|` blocks alike."""
        stops = self._stops
        start = min(start, len(stops) - 1)
        end = min(max(start + 1, end or 0), len(stops) - 1)
        line, column = stops[start]
        ends = [at for row, at in stops[start + 1 : end + 1] if row == line]
        return Span(self.span.file, line, column, max([column + 1, *ends]))

    @cached_property
    def _stops(self) -> list[tuple[int, int]]:
        """The (line, column) of every character of `text`, and of the place after the last."""
        line, column = self.span.line, self.span.column
        if not self.is_exact or self.source is None or self.style in ("plain", BROKEN):
            return [(line, column + index) for index in range(len(self.text) + 1)]
        if self.style == "literal":
            return self._literal_stops(line, column)
        return self._quoted_stops(line, column)

    def _literal_stops(self, line: int, column: int) -> list[tuple[int, int]]:
        stops, at = [], column
        for character in self.text:
            stops.append((line, at))
            line, at = (line + 1, column) if character == "\n" else (line, at + 1)
        return [*stops, (line, at)]

    def _quoted_stops(self, line: int, column: int) -> list[tuple[int, int]]:
        assert self.source is not None
        raw = self.source.lines[line - 1][column : self.span.end_column - 2]
        units = re.findall(r"''|.", raw) if self.style == "single" else _ESCAPE.findall(raw)
        stops, at = [], column + 1
        for unit in units:
            stops.append((line, at))
            at += len(unit)
        return [*stops, (line, at)]


@dataclass(frozen=True)
class Items:
    """A list of values."""

    items: tuple[Node, ...]
    span: Span

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Entry:
    """A key with its value. `earlier` is what stood under the key before a later source replaced or merged it.

    In `graph` and among `outputs` that are expressions, `previous` stands for `earlier`; for any other value it says
    what a report prints as "replaces albef.yaml:31". A `drop` cuts it.
    """

    key: Scalar
    value: Node
    earlier: Entry | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.key.text


@dataclass(frozen=True)
class Mapping:
    """Entries in their order; a name stands once."""

    entries: tuple[Entry, ...]
    span: Span

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.entries}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def entry(self, name: str) -> Entry | None:
        return self._by_name.get(name)

    def get(self, name: str) -> Node | None:
        entry = self._by_name.get(name)
        return entry.value if entry else None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)


Node: TypeAlias = Scalar | Items | Mapping
