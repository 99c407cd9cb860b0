"""A list of mistakes in which each cause stands once."""

from __future__ import annotations

from collections.abc import Iterable

from compose_vlp.errors import Problem, Span


class Problems:
    """Collects mistakes; the same words at the same place are one mistake, however often they are found.

    A substitution computes an expression again and again, so a mistake in it is met again and again.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, Span | None], Problem] = {}

    def add(self, message: str, span: Span | None, *hints: str, related: Iterable[tuple[str, Span]] = ()) -> None:
        """Note a mistake at its place, with what may mend it."""
        self._found.setdefault((message, span), Problem(message, span, hints, tuple(related)))

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._found.setdefault((problem.message, problem.span), problem)

    @property
    def found(self) -> tuple[Problem, ...]:
        return tuple(self._found.values())

    def __len__(self) -> int:
        return len(self._found)
