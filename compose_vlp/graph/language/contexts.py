"""Where an expression is computed: in which world, and with which names replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compose_vlp.errors import Span
from compose_vlp.graph.language.names import Key
from compose_vlp.graph.language.reads import Version
from compose_vlp.graph.plan import Arg


@dataclass(frozen=True)
class Put:
    """The replacement of a name: its value, the argument's place, and the call that it was written in."""

    arg: Arg
    text: str
    span: Span
    call: Span


Environment = Mapping[Key, Put]


@dataclass(frozen=True)
class Context:
    """The place in which an expression is computed.

    `label` is what its last call will be called, `prefix` (and the world in which that stands) what calls of entries
    that an environment makes anew begin with, `chain` the substitutions that led here.
    """

    version: Version
    label: str
    world: str | None = None
    env: Environment = field(default_factory=dict)
    prefix: str = ""
    prefix_world: str | None = None
    chain: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        return self.world is None and not self.env
