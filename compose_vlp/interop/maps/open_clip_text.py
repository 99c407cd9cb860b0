"""The text transformers of open_clip and of OpenAI's CLIP into our `causal_decoder`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from compose_vlp.interop.maps.name_map import Converted, NameMap, State, by_rules
from compose_vlp.interop.open_clip_coca import layer_rules
from compose_vlp.interop.rules import named, same


def fits(names: Collection[str], _: nn.Module) -> bool:
    """Are these the names of open_clip's TextTransformer, on its own or in a CLIP?"""
    return any(f"{prefix}token_embedding.weight" in names for prefix in ("", "text."))


def convert(state: State, module: Any) -> Converted:
    """Convert what stands under `text.`, or without a prefix; the projection is left over."""
    prefix = "text." if "text.token_embedding.weight" in state else ""
    rules = [
        same(f"{prefix}token_embedding.weight", "embedding.weight"),
        same(f"{prefix}positional_embedding", "positions"),
        same(f"{prefix}cls_emb", "cls"),
        *named(f"{prefix}ln_final", "norm"),
    ]
    for i in range(len(module.layers)):
        rules += layer_rules(f"{prefix}transformer.resblocks.{i}", f"layers.{i}")
    return by_rules(rules, state, module)


MAP = NameMap("open_clip", frozenset({"causal_decoder"}), fits, convert)
