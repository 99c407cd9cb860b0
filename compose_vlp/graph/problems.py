"""A list of mistakes in which each cause stands once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from compose_vlp.errors import Problem, Span


class Problems:
    """Collects mistakes; the same words at the same place are one mistake, however often they are found.

    A substitution computes an expression again and again, so a mistake in it is met again and again.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, Span | None], Problem] = {}
        self._chain: tuple[str, ...] = ()
        self._times = 0
        self._said: set[str] = set()

    @contextmanager
    def within(self, chain: tuple[str, ...]) -> Iterator[None]:
        """Say of every problem added here that it was found while these substitutions were made."""
        before, self._chain = self._chain, chain
        try:
            yield
        finally:
            self._chain = before

    def add(self, message: str, span: Span | None, *hints: str, related: Iterable[tuple[str, Span]] = ()) -> None:
        """Note a mistake at its place, with what may mend it."""
        self._times += 1
        all_hints = (*hints, *(f"in {substitution}" for substitution in self._chain))
        self._found.setdefault((message, span), Problem(message, span, all_hints, tuple(related)))

    def is_first(self, cause: str) -> bool:
        """Check whether a cause is met for the first time; later ones count as noted without a word."""
        self._times += 1
        new = cause not in self._said
        self._said.add(cause)
        return new

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._times += 1
            self._found.setdefault((problem.message, problem.span), problem)

    @property
    def found(self) -> tuple[Problem, ...]:
        return tuple(self._found.values())

    def __len__(self) -> int:
        """How often a mistake was noted; who compares it before and after knows whether all went well between."""
        return self._times
