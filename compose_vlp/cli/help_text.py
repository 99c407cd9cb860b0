"""What a command's help says: its docstring in flowing paragraphs, and examples at the end."""

from __future__ import annotations

import inspect
from collections.abc import Sequence


def flowing(text: str) -> str:
    """Paragraphs of a docstring, each as one line, so that they fill whatever width there is."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def epilog(examples: Sequence[tuple[str, str]]) -> str:
    """Examples, `(what it does, command)`, in rich's markup."""
    lines = ["[bold]Examples[/]"]
    for what, line in examples:
        lines += [f"  [green]{_escaped(line)}[/]", f"      [dim]{_escaped(what)}[/]"]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
