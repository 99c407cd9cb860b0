"""Tables of text as people and programs write them: what parts the cells, whether marks quote, and the lines' cells."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from compose_vlp.data.places import names_picture
from compose_vlp.errors import UserError
from compose_vlp.files import encoding_of

Quoting = Literal["quotes", "none"]

LONGEST_CELL = 10_000_000
MOST_LINES = 1000
"""Lines that one quoted cell may go over."""
SAMPLE = 200
"""Lines from which it is told what parts the cells."""
_EXCEL = re.compile(r"sep=(.)")
"""The line by which Excel is told the separator."""
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Dialect:
    """How a table is written: `padded` where white space around a cell is none of it."""

    separator: str
    quotes: bool
    padded: bool

    def split(self, text: str) -> list[str]:
        """Split a line, or several lines that a quoted cell joins, into cells.

        Raises:
            csv.Error: its quotation marks do not pair.
        """
        if not self.quotes or '"' not in text:
            cells = text.split(self.separator)
        else:
            cells = next(csv.reader([text], delimiter=self.separator, strict=True, skipinitialspace=self.padded))
        return [cell.strip() for cell in cells] if self.padded else cells

    @cached_property
    def closing(self) -> re.Pattern[str]:
        """Matches the rest of a quoted cell, up to the mark that ends it."""
        return re.compile(rf'(?:[^"]|"")*"(?=$|{re.escape(self.separator)})')


def dialect_of(file: Path, separator: str | None, quoting: Quoting | None) -> Dialect:
    """Guess how a table is written, as far as the settings do not say it.

    The separator is the one of tab, comma, semicolon and bar that the headings have, and the lines as often as they.
    Quotation marks quote where commas or semicolons part the cells. Between tabs or bars they are what somebody wrote
    (captions of the web), unless all of them in the file pair as quotes do and one could be nothing else.
    """
    sample = first_lines(file, SAMPLE)
    declared = _EXCEL.fullmatch(sample[0]) if sample else None
    if separator is None:
        separator = declared[1] if declared else _separator(sample, "\t" if file.suffix.lower() == ".tsv" else ",")
    headings = (sample[1:] if declared else sample)[:1]
    parts = headings[0].split(separator) if headings else []
    padded = separator == "|" or (len(parts) > 1 and all(part.startswith(" ") for part in parts[1:]))
    quotes = quoting == "quotes" if quoting is not None else separator in ",;" or _quotes_throughout(file, separator)
    return Dialect(separator, quotes, padded)


def first_lines(file: Path, count: int) -> list[str]:
    """Read the first lines that hold anything."""
    return list(islice((text for _, text in _lines(file) if text.strip()), count))


def records_of(file: Path, dialect: Dialect, width: int | None) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the number of each line that holds anything, and its cells; or what is wrong with it.

    A line whose quotation marks do not pair costs itself alone. `width` is the number of columns; where it is None, the
    first line tells it.
    """
    csv.field_size_limit(LONGEST_CELL)
    reader = _Reader(file, dialect)
    for number, text in reader:
        if _damaged(text):
            yield number, "no text in UTF-8"
            continue
        cells = reader.cells(text, width)
        if cells is None:
            yield number, "its quotation marks do not pair; `quoting: none` takes marks for what they are"
        elif any(cell.strip() for cell in cells):
            width = width or len(cells)
            yield number, cells


class _Reader:
    """The lines of a table in order, some of them looked at before their turn."""

    def __init__(self, file: Path, dialect: Dialect) -> None:
        self.dialect = dialect
        self.rest = _lines(file)
        self.ahead: deque[tuple[int, str]] = deque()
        first = self._at(0)
        if first is not None and _EXCEL.fullmatch(first):
            self.ahead.popleft()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while self._at(0) is not None:
            yield self.ahead.popleft()

    def cells(self, text: str, width: int | None) -> list[str] | None:
        """Return the cells of a record that begins with this line; None where its marks do not pair."""
        try:
            return self.dialect.split(text)
        except csv.Error:
            pass
        more = self._quoted_lines(text)
        if not more:
            return None
        try:
            cells = self.dialect.split("\n".join([text, *more]))
        except csv.Error:
            return None
        if (width is not None and len(cells) != width) or _swallows(cells, self.dialect.separator):
            return None
        for _ in more:
            self.ahead.popleft()
        return cells

    def _quoted_lines(self, text: str) -> list[str]:
        """Return the lines over which the cell that this one opens goes on; none, where no line closes it."""
        if not self._leaves_open(text):
            return []
        lines: list[str] = []
        while len(lines) < MOST_LINES and (line := self._at(len(lines))) is not None:
            lines.append(line)
            closed = self.dialect.closing.match(line)
            if closed is None and not _QUOTED.fullmatch(f'"{line}"'):
                return []  # a mark that neither closes the cell nor is doubled
            if closed is not None and not self._leaves_open(line[closed.end() :].removeprefix(self.dialect.separator)):
                return lines
        return []

    def _leaves_open(self, text: str) -> bool:
        """Tell whether a mark opened here is not closed here: one more mark would do it."""
        try:
            self.dialect.split(text)
        except csv.Error:
            try:
                self.dialect.split(text + '"')
            except csv.Error:
                return False
            return True
        return False

    def _at(self, place: int) -> str | None:
        """Return the line so many after the next one."""
        while len(self.ahead) <= place:
            line = next(self.rest, None)
            if line is None:
                return None
            self.ahead.append(line)
        return self.ahead[place][1]


def _swallows(cells: Sequence[str], separator: str) -> bool:
    """Tell whether a cell of several lines holds a record of its own: a lone mark opened it, another closed it."""
    for cell in cells:
        first, *others = cell.split("\n")
        if not others:
            continue
        pieces = [[piece.strip() for piece in line.split(separator)] for line in (first, *others)]
        if any(names_picture(piece) for line in pieces if len(line) > 1 for piece in line):
            return True
        key = _shape(cells[0])
        numbered = cell is not cells[0] and "0" in key
        if numbered and any(1 < len(line) <= len(cells) and _shape(line[0]) == key for line in pieces[1:]):
            return True
    return False


def _shape(cell: str) -> str:
    """Letters as `a` and digits as `0`: identifiers of one table are alike."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, without their ends.

    Bytes that are no UTF-8 become lone surrogates, which are found later: one bad line does not end the file.
    """
    with file.open("rb") as stream:
        beginning = stream.read(65536)
    encoding = encoding_of(beginning)
    if encoding == "utf-8-sig" and b"\0" in beginning[:200]:
        raise UserError(f"{file} is no text in UTF-8", hints=["it has zero bytes, as UTF-16 has: save it as UTF-8"])
    old_mac = b"\r" in beginning and b"\n" not in beginning
    with file.open(encoding=encoding, errors="surrogateescape", newline="\r" if old_mac else "\n") as stream:
        try:
            for number, line in enumerate(stream, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UserError(f"{file} is no text in {encoding.upper()}: {error}") from error


def _damaged(text: str) -> bool:
    return not text.isascii() and re.search("[\udc80-\udcff]", text) is not None


def _separator(sample: Sequence[str], usual: str) -> str:
    """Find what parts the cells of these lines, the headings first."""
    if not sample:
        return usual
    plain = [_QUOTED.sub("", line) for line in sample]
    order = sorted("\t,;|", key=lambda mark: mark != usual)

    def fits(mark: str) -> float:
        return sum(line.count(mark) == plain[0].count(mark) for line in plain) / len(plain)

    return max((mark for mark in order if mark in plain[0]), key=fits, default=usual)


def _quotes_throughout(file: Path, separator: str) -> bool:
    """Tell whether every mark in the file pairs as quotes do, and one of them could be nothing else."""
    part = re.escape(separator)
    proper = re.compile(rf'(?:"(?:[^"]|"")*"|[^"{part}]*)(?:{part}(?:"(?:[^"]|"")*"|[^"{part}]*))*')
    needed = re.compile(rf'(?:^|{part})"(?:[^"]|"")*?(?:""|{part})(?:[^"]|"")*"(?:$|{part})')
    sure, first = False, True
    for _, text in _lines(file):
        if '"' in text:
            if not proper.fullmatch(text):
                return False
            sure = sure or first or needed.search(text) is not None
        first = False
    return sure
