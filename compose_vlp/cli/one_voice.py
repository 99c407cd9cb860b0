"""Wrong usage is told once, however many processes `torchrun` started with the same words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from compose_vlp.cli.guard import speaks
from compose_vlp.readable import visible

_USAGE: Any = typer.BadParameter.__base__  # click's UsageError: typer has a click of its own, without public names


class OneVoice(TyperGroup):
    """A group of commands of whose usage errors one process speaks; the others end with the same code."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _said_once():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _said_once():
            return super().invoke(ctx)


@contextmanager
def _said_once() -> Iterator[None]:
    try:
        yield
    except _USAGE as error:
        error.message = visible(error.message)
        if speaks(error.format_message()):
            raise
        raise SystemExit(error.exit_code) from None
