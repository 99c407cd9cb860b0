"""What a picture shows: boxes and arrows with their words, before any of them has a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Family = Literal["input", "tower", "head", "choice", "function", "loss", "output"]
"""What colours a box: inputs, deep stacks, small trained parts, what draws or keeps state, weightless steps, ends."""

FAMILIES: Mapping[Family, str] = {
    "input": "input",
    "tower": "encoder, fuser, decoder",
    "head": "pooler, projection, head",
    "choice": "draws or keeps state",
    "function": "function, no weights",
    "loss": "loss",
    "output": "output",
}


@dataclass(frozen=True)
class Box:
    """One call, loss or output.

    `name` is the value's name in the graph (empty where it has none), `carries` its kind and shape. `notes` stand in
    the box under its title, `details` are what the page shows when the box is chosen: (heading, lines) pairs.
    """

    id: str
    family: Family
    title: str
    notes: tuple[str, ...] = ()
    name: str = ""
    carries: str = ""
    small: bool = False  # a pill: functions and reads
    world: str = ""  # the teacher that computes it; empty for the student
    frozen: bool = False
    pruned: bool = False
    share: float = 0.0  # of all parameters
    twin: str = ""  # boxes of equal twin are calls of one component
    details: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


@dataclass(frozen=True)
class Arrow:
    """A value on its way: from a box (or a field of its record) to a port of another."""

    source: str
    target: str
    port: str = ""
    field: str = ""
    detached: bool = False  # gradients stop here


@dataclass(frozen=True)
class Diagram:
    """All of a picture. `facts` are shown beside the title: (what, how much)."""

    title: str
    subtitle: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    facts: tuple[tuple[str, str], ...] = ()
    paper: str = ""
    by_id: Mapping[str, Box] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {box.id: box for box in self.boxes})
