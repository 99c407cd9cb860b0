"""A user's mistakes on standard error."""

from __future__ import annotations

from compose_vlp.cli.console import err
from compose_vlp.errors import UserError


def show(error: UserError) -> None:
    """Print every problem of an error with its place and how to mend it."""
    console = err()
    for problem in error.problems:
        place = f"{problem.span}: " if problem.span else ""
        console.print(f"{place}{problem.message}")
        for hint in problem.hints:
            console.print(f"  {hint}")
