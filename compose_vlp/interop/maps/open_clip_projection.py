"""The last map of the visual transformers of open_clip and of OpenAI's CLIP into our `projection`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from compose_vlp.interop.maps.name_map import Converted, NameMap, State, by_rules
from compose_vlp.interop.rules import same


def fits(names: Collection[str], _: nn.Module) -> bool:
    """Has the file a map behind its visual tower?"""
    return "visual.proj" in names


def convert(state: State, module: Any) -> Converted:
    """`visual.proj` as the map of a component without biases; all else is left over."""
    return by_rules([same("visual.proj", "map.weight", "transposed")], state, module)


MAP = NameMap("open_clip", frozenset({"projection"}), fits, convert)
