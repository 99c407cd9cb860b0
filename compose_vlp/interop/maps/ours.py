"""Weights of this project's own runs, or of one component of them."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from compose_vlp.interop.maps.contexts import for_contexts
from compose_vlp.interop.maps.name_map import Converted, NameMap, State


def fits(names: Collection[str], module: nn.Module) -> bool:
    """Has the file names of this component?"""
    return bool(for_contexts(names, module))


def convert(state: State, module: nn.Module) -> Converted:
    """The names as they are; of a component that looks at several contexts, one context's weights for all."""
    named = for_contexts(state, module)
    copied = len(named) - len(set(named.values()))
    notes = (f"layers: {copied} weights for further contexts are copies of the first one's",) if copied else ()
    return Converted(
        {ours: state[original] for ours, original in named.items()},
        {ours: (original,) for ours, original in named.items()},
        notes,
    )


MAP = NameMap("ours", frozenset(), fits, convert)
