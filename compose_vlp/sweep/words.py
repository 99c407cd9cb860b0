"""Words of a sweep: what would stand on a command line, each with its place in the sweep's file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compose_vlp.blueprint.arguments import is_override
from compose_vlp.blueprint.nodes import COMMAND_LINE, Scalar
from compose_vlp.errors import Problem, Span
from compose_vlp.files import is_file

_SUFFIXES = ("", ".yaml", ".yml")


@dataclass(frozen=True)
class Word:
    """A blueprint's name or an override; `pieces` are the scalars that it was put together from, by their offsets."""

    text: str
    pieces: tuple[tuple[int, Scalar], ...]

    @classmethod
    def of(cls, scalar: Scalar) -> Word:
        return cls(scalar.text.strip(), ((0, scalar),))

    @classmethod
    def setting(cls, path: Scalar, value: Scalar) -> Word:
        """`path=value` of two scalars."""
        return cls(f"{path.text}={value.text}", ((0, path), (len(path.text) + 1, value)))

    @property
    def is_override(self) -> bool:
        return is_override(self.text)

    @property
    def changes(self) -> str:
        """Return what the word sets, adds or removes: two words of equal signs and paths cannot both count."""
        return self.text.partition("=")[0]

    def place(self, start: int = 0, end: int | None = None) -> Span:
        """The span of `text[start:end]` in the file that the word was read from."""
        offset, scalar = next(piece for piece in reversed(self.pieces) if piece[0] <= start)
        within = min(start - offset, max(len(scalar.text) - 1, 0))
        until = None if end is None else min(end - offset, len(scalar.text))
        if not scalar.text:
            return scalar.span
        return scalar.place(within, len(scalar.text) if until is None else until)

    def beside(self, folder: Path) -> Word:
        """A blueprint's name as the command line takes it: a file beside the sweep's comes before a built-in one."""
        if self.is_override:
            return self
        files = (folder / f"{self.text}{suffix}" for suffix in _SUFFIXES)
        path = next((path for path in files if path.suffix in _SUFFIXES[1:] and is_file(path)), None)
        return self if path is None else replace(self, text=str(path), pieces=((0, self.pieces[0][1]),))


def words_of(scalar: Scalar) -> list[Word]:
    """The words of one value: one, or several between spaces where none has a bracket or quote."""
    if not scalar.is_exact or re.search(r"[\[\]{}\"']", scalar.text):
        return [Word.of(scalar)]
    pieces = list(re.finditer(r"\S+", scalar.text))
    if len(pieces) == 1:
        return [Word.of(scalar)]
    places = [scalar.place(piece.start(), piece.end()) for piece in pieces]
    return [Word.of(Scalar(piece[0], place)) for piece, place in zip(pieces, places, strict=True)]


def split(words: Sequence[Word]) -> tuple[list[Word], list[Word]]:
    """Blueprints and overrides."""
    return [word for word in words if not word.is_override], [word for word in words if word.is_override]


def layered(base: Sequence[Word], above: Sequence[Word]) -> list[Word]:
    """The words of both, without changes of the base that one above makes, too, or that are within what it removes."""
    changed = {word.changes for word in above if word.is_override}
    removed = [word.changes[1:] for word in above if word.text.startswith("~")]

    def stays(word: Word) -> bool:
        within = any(f"{word.changes}.".startswith(f"{path}.") for path in removed)
        return not word.is_override or not (word.changes in changed or within)

    return [*(word for word in base if stays(word)), *above]


def at_their_words(problems: Sequence[Problem], words: Sequence[Word]) -> list[Problem]:
    """Problems of a command line of these words, blueprints before overrides, at the words' own places."""
    names, overrides = split(words)
    lines = [*names, *overrides]

    def moved(span: Span | None) -> Span | None:
        if span is None or span.file != COMMAND_LINE or not 1 <= span.line <= len(lines):
            return span
        return lines[span.line - 1].place(span.column - 1, span.end_column - 1)

    return [
        replace(
            problem,
            span=moved(problem.span),
            related=tuple((text, moved(span) or span) for text, span in problem.related),
        )
        for problem in problems
    ]
