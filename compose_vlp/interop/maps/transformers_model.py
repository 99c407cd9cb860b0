"""A checkpoint of transformers, of a model with or without a head, into the component `transformers`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from compose_vlp.interop.maps.name_map import Converted, NameMap, State

PREFIX = "model."
LEGACY = {".gamma": ".weight", ".beta": ".bias"}
"""Endings of norms in the first BERT checkpoints."""


def fits(names: Collection[str], module: Any) -> bool:
    """Has the file names of this very model, below the name that it has under a head or not?"""
    ours = module.model.state_dict().keys()
    return any(_name(name, module.model, ours) in ours for name in names)


def convert(state: State, module: Any) -> Converted:
    """The library's names without the prefix that a model has under a head (`bert.`, `transformer.`)."""
    ours = module.model.state_dict().keys()
    renamed = {f"{PREFIX}{_name(name, module.model, ours)}": name for name in state}
    known = {name: original for name, original in renamed.items() if name.removeprefix(PREFIX) in ours}
    return Converted(
        {name: state[original] for name, original in known.items()},
        {name: (original,) for name, original in known.items()},
    )


def modern_name(name: str) -> str:
    """The name of today for one of the first BERT checkpoints, whose norms have a `gamma` and a `beta`."""
    for old, new in LEGACY.items():
        if name.endswith(old) and "LayerNorm" in name:
            return name.removesuffix(old) + new
    return name


def _name(name: str, model: Any, ours: Collection[str]) -> str:
    name = modern_name(name)
    bare = name.removeprefix(f"{model.base_model_prefix}.")
    return bare if bare in ours else name


MAP = NameMap("transformers", frozenset({"transformers"}), fits, convert)
