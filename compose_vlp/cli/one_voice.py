"""Wrong usage is told once, however many processes `torchrun` started with the same words, and as JSON to a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from compose_vlp.cli.guard import speaks
from compose_vlp.errors import UserError
from compose_vlp.readable import visible

_USAGE: Any = typer.BadParameter.__base__  # click's UsageError: typer has a click of its own, without public names


class OneVoice(TyperGroup):
    """A group of commands of whose usage errors one process speaks; the others end with the same code."""

    as_json = False

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **kwargs: Any) -> Any:
        self.as_json = "--json" in args
        with _said_once(as_json=self.as_json):
            return super().make_context(info_name, args, *more, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _said_once(as_json=self.as_json):
            return super().invoke(ctx)


@contextmanager
def _said_once(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except _USAGE as error:
        if as_json:
            raise UserError(error.format_message()) from None  # `guarded` prints it, once
        error.message = visible(error.message)
        if speaks(error.format_message()):
            raise
        raise SystemExit(error.exit_code) from None
