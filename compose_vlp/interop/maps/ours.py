"""Weights of this project's own runs, or of one component of them."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from compose_vlp.interop.maps.name_map import Converted, NameMap, State


def fits(names: Collection[str], module: nn.Module) -> bool:
    """Has the file names of this component?"""
    return not module.state_dict().keys().isdisjoint(names)


def convert(state: State, module: nn.Module) -> Converted:
    """The names as they are."""
    ours = module.state_dict().keys()
    taken = {name: tensor for name, tensor in state.items() if name in ours}
    return Converted(taken, {name: (name,) for name in taken})


MAP = NameMap("ours", frozenset(), fits, convert)
