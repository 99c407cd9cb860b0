"""A user's mistakes on standard error: each with its place, an excerpt, and how to mend it."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from compose_vlp.blueprint.render import in_order, render
from compose_vlp.cli.console import mistakes
from compose_vlp.errors import BlueprintError, Problem, Span, UserError

_EXCERPT = re.compile(r"  \d* \| ")
_CARETS = re.compile(r"  \s* \| \s*\^+$")


def show(error: UserError) -> None:
    """Print every problem of an error."""
    excerpts = _lines_of(error.problems) | (dict(error.excerpts) if isinstance(error, BlueprintError) else {})
    text = render(error.problems, excerpts)
    if not isinstance(error, BlueprintError):
        text = text.rpartition("\n\n")[0]  # a count of one says nothing
    console = mistakes()
    for block in text.rstrip("\n").split("\n\n"):
        for number, line in enumerate(block.split("\n")):
            console.print(Text(line, style=_style(line, number)), soft_wrap=True)
        console.print()


def _lines_of(problems: Iterable[Problem]) -> dict[str, Sequence[str]]:
    """Read the lines of Python files that problems point at, by file."""
    files = {problem.span.file for problem in problems if problem.span is not None}
    return {file: [line.rstrip("\n") for line in linecache.getlines(file)] for file in files if file.endswith(".py")}


def _style(line: str, number: int) -> str:
    if number == 0:
        return "bold"
    if _CARETS.match(line):
        return "bold red"
    if line.startswith("  = "):
        return "cyan"
    return "" if _EXCERPT.match(line) else "dim"


def as_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Write the problems for a script, in the order in which they are printed."""
    return [
        {
            "message": problem.message,
            "at": _span_json(problem.span),
            "hints": list(problem.hints),
            "related": [{"what": what, "at": _span_json(span)} for what, span in problem.related],
        }
        for problem in in_order(problems)
    ]


def _span_json(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    return {"file": span.file, "line": span.line, "column": span.column, "end_column": span.end_column}
