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

SHORT = ("stages.pretrain.length=1 steps", "stages.pretrain.batch=4", "data.pairs.size=16", "data.pairs.count=12")
"""What makes a training a matter of seconds."""
