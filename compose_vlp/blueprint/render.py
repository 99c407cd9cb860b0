"""Problems as people read them: place, what is wrong, the line with a caret under it, what was expected, what near."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compose_vlp.blueprint.nodes import COMMAND_LINE
from compose_vlp.errors import Problem, Span

Excerpts = Mapping[str, Sequence[str]]
"""Lines of the sources by file name."""

MOST = 50
"""So many problems are shown in full; nobody mends more before trying again."""
_WIDEST = 160


def render(problems: Iterable[Problem], excerpts: Excerpts) -> str:
    """All problems, ordered by place, each once, with the count at the end."""
    ordered = in_order(problems)
    shown = [_render_one(problem, excerpts) for problem in ordered[:MOST]]
    rest = len(ordered) - len(shown)
    count = f"{len(ordered)} mistake{'s' if len(ordered) > 1 else ''}" if ordered else ""
    return "\n\n".join([*shown, f"{count} ({rest} not shown)" if rest else count]).strip() + "\n"


def in_order(problems: Iterable[Problem], files: Iterable[str] = ()) -> list[Problem]:
    """By file, line and column, those without a place first; the same message at the same place stands once.

    Files come in the order given, then as they are met.
    """
    once: dict[tuple[str, Span | None], Problem] = {}
    for problem in problems:
        once.setdefault((problem.message, problem.span), problem)
    order = {name: number for number, name in enumerate(files)}
    for problem in once.values():
        if problem.span:
            order.setdefault(problem.span.file, len(order))

    def place(problem: Problem) -> tuple[int, int, int]:
        span = problem.span
        return (order[span.file], span.line, span.column) if span else (-1, 0, 0)

    return sorted(once.values(), key=place)


def _render_one(problem: Problem, excerpts: Excerpts) -> str:
    lines = [f"{_place(problem.span)}{problem.message}"]
    if problem.span:
        lines += _excerpt(problem.span, excerpts)
    lines += [f"  {label} at {_where(span)}" + _quoted(span, excerpts) for label, span in problem.related]
    lines += [f"  = {hint}" for hint in problem.hints]
    return "\n".join(lines)


def _place(span: Span | None) -> str:
    return f"{_where(span)}: " if span else ""


def _where(span: Span) -> str:
    """An argument has no line that a person could turn to; its excerpt says which one it is."""
    return COMMAND_LINE if span.file == COMMAND_LINE else str(span)


def _line(span: Span, excerpts: Excerpts) -> str:
    lines = excerpts.get(span.file, ())
    return lines[span.line - 1] if 0 < span.line <= len(lines) else ""


def _excerpt(span: Span, excerpts: Excerpts) -> list[str]:
    """The line and the carets below its piece; of a very long line the part around it. A tab counts as one blank."""
    line = _line(span, excerpts).replace("\t", " ").rstrip()
    if not line:
        return []
    start, width = span.column - 1, max(1, min(span.end_column, len(line) + 2) - span.column)
    if len(line) > _WIDEST:
        cut = max(0, start - _WIDEST // 2)
        line, start = line[cut : cut + _WIDEST], start - cut
        width = min(width, len(line) - start + 1)
    number = "" if span.file == COMMAND_LINE else str(span.line)
    return [f"  {number} | {line}", f"  {' ' * len(number)} | {' ' * start}{'^' * width}"]


def _quoted(span: Span, excerpts: Excerpts) -> str:
    line = _line(span, excerpts).strip()
    return f": {line[:_WIDEST]}" if line else ""
