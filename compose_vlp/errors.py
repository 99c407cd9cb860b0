"""Mistakes of the user, said so that they can be mended: place, cause, expectation, nearest right thing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Span:
    """A piece of one line of a source: lines and columns count from 1; `end_column` is exclusive."""

    file: str
    line: int
    column: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake. `message` says what is wrong, `hints` how to mend it, `related` where its other half stands.

    `unread` says that nothing reads the named entry whose key the span is, and `misspelt` that another name is near.
    """

    message: str
    span: Span | None = None
    hints: tuple[str, ...] = ()
    related: tuple[tuple[str, Span], ...] = field(default=())
    unread: bool = field(default=False, compare=False)
    misspelt: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _readable(self.message))
        object.__setattr__(self, "hints", tuple(map(_readable, self.hints)))


_LONG_WORD = re.compile(r"\S{121,}")
_LONGEST = 1500


def _readable(text: str) -> str:
    """Shorten whatever a user wrote in a text to what a person reads."""
    text = _LONG_WORD.sub(lambda word: f"{word[0][:60]}...{word[0][-10:]}", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class UserError(Exception):
    """A mistake in what the user gave us; the command line prints it without a traceback and exits with 2.

    >>> try:
    ...     load("runs/nowhere")
    ... except UserError as mistake:
    ...     print(mistake.problems[0].message)
    no run 'runs/nowhere': it is neither a run folder nor an MLflow run id
    """

    def __init__(self, message: str, *, hints: Sequence[str] = (), span: Span | None = None) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = (Problem(message, span, tuple(hints)),)


class BlueprintError(UserError):
    """All mistakes of one blueprint, in one go; `excerpts` gives the source lines by file, for the carets.

    >>> try:
    ...     Blueprint.load("tiny/coca", overrides="components.vision.heads=5").check()
    ... except BlueprintError as mistakes:
    ...     print(mistakes.problems[0].message)
    `vision`: heads 5 does not divide width 128
    """

    def __init__(self, problems: Iterable[Problem], excerpts: Mapping[str, Sequence[str]] | None = None) -> None:
        listed = tuple(problems)
        super().__init__("; ".join(f"{p.span}: {p.message}" if p.span else p.message for p in listed))
        self.problems = listed
        self.excerpts: Mapping[str, Sequence[str]] = excerpts or {}


class Stopped(KeyboardInterrupt):
    """A signal ended the run; `code` is the exit code by which shells and schedulers know such an end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.code = 128 + number


SURE = 0.7
"""Likeness from which a name is taken for another, and not only offered: `compiler` is no `optimizer`."""


def nearest(word: str, known: Iterable[str], count: int = 3, cutoff: float = 0.55) -> tuple[str, ...]:
    """List the `count` entries of `known` most like `word`, best first; those of a likeness of `cutoff` (1: equal)."""
    return tuple(difflib.get_close_matches(word, sorted(set(known)), n=count, cutoff=cutoff))


def did_you_mean(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """Offer the nearest names in a hint line, or nothing where none is near."""
    near = nearest(word, known)
    return (f"did you mean {' or '.join(repr(n) for n in near)}?",) if near else ()


def nearest_numbers(number: int, working: Sequence[int]) -> list[int]:
    """Find the largest working number below `number` and the smallest above it, where there are such."""
    below = [n for n in working if n < number]
    above = [n for n in working if n > number]
    return [*below[-1:], *above[:1]]
