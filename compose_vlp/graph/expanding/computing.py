"""What the rules of substitution ask of whoever computes the graph's entries."""

from __future__ import annotations

from typing import Protocol

from compose_vlp.errors import Span
from compose_vlp.graph.expanding.calls import Calls
from compose_vlp.graph.language.names import Key, Names
from compose_vlp.graph.language.reads import Reads
from compose_vlp.graph.plan import Arg, Ref
from compose_vlp.graph.problems import Problems


class Computing(Protocol):
    """The graph of one blueprint, as far as it has been computed."""

    @property
    def names(self) -> Names:
        """The namespace of the blueprint."""

    @property
    def reads(self) -> Reads:
        """Give the names that each entry meets on its way to the inputs."""

    @property
    def calls(self) -> Calls:
        """The calls that have been written."""

    @property
    def problems(self) -> Problems:
        """Collect the mistakes that are met."""

    def entry(self, name: str, world: str | None = None) -> Arg | None:
        """The value of a graph entry, nothing replaced; None where there is a mistake in it (noted)."""

    def original(self, key: Key, span: Span) -> Ref | None:
        """Give the value that a replaced name stands for; None where it is not known."""
