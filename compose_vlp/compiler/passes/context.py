"""What passes may ask about the blueprint whose plan they rewrite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Call


@dataclass(frozen=True)
class PassContext:
    """`kind_of(call)` is the kind behind a component, function or loss call (None for inputs and reads), with the
    promises that hold; `doubts` says by component, function or loss why these are fewer than it makes;
    `trainable(call)` says whether the stage trains a parameter of the component called;
    `draws(call)` whether the call draws random numbers with its present settings; `keys_owner(call)` whose
    parameters make the keys and values of its context: its component's own, or another's that it shares."""

    kind_of: Callable[[Call], Kind | None]
    doubts: Mapping[str, str]
    trainable: Callable[[Call], bool]
    draws: Callable[[Call], bool]
    keys_owner: Callable[[Call], str]
