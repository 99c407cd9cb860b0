"""Where the objects of a JSON file stand, one a line or all in one list, so that each can be read alone."""

from __future__ import annotations

import json
import re
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO, TypeAlias

import numpy as np

from compose_vlp.errors import UserError
from compose_vlp.files import encoding_of

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]

WINDOW = 1 << 24
"""Letters of a list that are read at once."""
_LETTER = re.compile(r"[^ \t\r\n]")
"""What is no white space to JSON."""


class Places(NamedTuple):
    """Where each object starts in the file, in bytes, how long it is, and the number of its line, or of its entry."""

    starts: Numbers
    sizes: Numbers
    numbers: Numbers
    in_list: bool


def find_places(file: Path, keeps: Callable[[bytes, int], bool]) -> Places:
    """Look a file through for the objects that `keeps` accepts, by their text and number.

    Raises:
        UserError: it is UTF-16, or a list that is no JSON.
    """
    with file.open("rb") as stream:
        beginning = stream.read(4096)
    if encoding_of(beginning) != "utf-8-sig":
        raise UserError(f"{file} is {encoding_of(beginning).upper()}", hints=["save the file as UTF-8"])
    in_list = begins_list(beginning)
    starts, sizes, numbers = array("q"), array("q"), array("q")
    for start, number, text in _entries(file) if in_list else _text_lines(file):
        if keeps(text, number):
            starts.append(start)
            sizes.append(len(text))
            numbers.append(number)
    return Places(_numbers(starts), _numbers(sizes), _numbers(numbers), in_list)


def _numbers(column: array[int]) -> Numbers:
    return np.asarray(column, np.int64).reshape(-1)


def begins_list(beginning: bytes) -> bool:
    """Tell whether a JSON file is one list, by its first bytes."""
    return beginning.removeprefix(BOM_UTF8).lstrip()[:1] == b"["


def _text_lines(file: Path) -> Iterator[tuple[int, int, bytes]]:
    """Start, number (from 1) and text of every line that holds anything."""
    start = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            text = line.removeprefix(BOM_UTF8) if number == 1 else line
            if text.strip():
                yield start + len(line) - len(text), number, text
            start += len(line)


def _entries(file: Path) -> Iterator[tuple[int, int, bytes]]:
    """Start, number (from 0) and text of every entry of a list."""
    # Bytes that are no UTF-8 become lone surrogates and bytes again: they break the entry that has them, not the file.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        window = _Window(file, stream)
        window.take("[")
        number = 0
        while window.next_letter() != "]":
            if number:
                window.take(",")
            window.next_letter()
            yield window.offset, number, window.take_value()
            number += 1
        window.take("]")
        if window.next_letter():
            raise window.error("something follows the list")


class _Window:
    """A part of a JSON text, which moves on over the file; `offset` is where it has come to, in bytes."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self.file = file
        self.stream = stream
        self.decoder = json.JSONDecoder()
        self.text = ""
        self.place = 0
        with file.open("rb") as raw:
            self.offset = len(BOM_UTF8) if raw.read(len(BOM_UTF8)) == BOM_UTF8 else 0

    def next_letter(self) -> str:
        """Return the next letter that is no white space; nothing at the end."""
        while True:
            if self.place == len(self.text) and not self._more():
                return ""
            letter = _LETTER.search(self.text, self.place)
            self._move(len(self.text) if letter is None else letter.start())
            if self.place < len(self.text):
                return self.text[self.place]

    def take(self, letter: str) -> None:
        """Step over this letter."""
        if self.next_letter() != letter:
            raise self.error(f"{letter!r} was expected")
        self._move(self.place + 1)

    def take_value(self) -> bytes:
        """Step over the value that begins here, and give its text."""
        while True:
            try:
                end = self.decoder.raw_decode(self.text, self.place)[1]
                if end < len(self.text) or not self._more():  # a number may go on
                    return self._move(min(end, len(self.text)))  # at the end of the file it is all that is left
            except RecursionError:
                raise self.error("it is nested too deep") from None
            except ValueError as error:
                if not self._more():
                    raise self.error(str(error).split(":")[0]) from None

    def error(self, reason: str) -> UserError:
        """Say what is wrong where the window has come to."""
        return UserError(f"{self.file} is no JSON list: {reason} (byte {self.offset:,})")

    def _more(self) -> bool:
        """Read on, and forget what has been stepped over."""
        read = self.stream.read(WINDOW)
        self.text = self.text[self.place :] + read
        self.place = 0
        return bool(read)

    def _move(self, end: int) -> bytes:
        passed = self.text[self.place : end].encode("utf-8", "surrogateescape")
        self.place = end
        self.offset += len(passed)
        return passed
