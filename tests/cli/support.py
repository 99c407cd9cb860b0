"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli: TypeAlias = Callable[..., Result]
