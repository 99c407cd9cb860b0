"""The visual transformers of open_clip and of OpenAI's CLIP into our `vit`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from compose_vlp.interop.maps.name_map import Converted, NameMap, State, by_rules, refuse
from compose_vlp.interop.maps.positions import fit_positions
from compose_vlp.interop.open_clip_coca import layer_rules
from compose_vlp.interop.rules import named, same

REFUSED = {".ls_1.gamma": "layer scale", "visual.patch_dropout.prob": "patch dropout"}


def fits(names: Collection[str], _: nn.Module) -> bool:
    """Are these the names of open_clip's VisionTransformer?"""
    return {"visual.conv1.weight", "visual.transformer.resblocks.0.ln_1.weight"} <= set(names)


def convert(state: State, module: Any) -> Converted:
    """Convert what stands under `visual.`; `ln_post` is the last norm of a component that has one, else left over."""
    refuse(state, REFUSED, "the file's ViT")
    rules = [
        same("visual.conv1.weight", "stem.projection.weight"),
        same("visual.class_embedding", "cls"),
        same("visual.positional_embedding", "positions"),
        *named("visual.ln_pre", "embedding_norm"),
        *named("visual.ln_post", "norm"),
    ]
    for i in range(len(module.layers)):
        rules += layer_rules(f"visual.transformer.resblocks.{i}", f"layers.{i}")
    converted = by_rules(rules, state, module)
    if module.positions is None:
        return converted
    return fit_positions(converted, "positions", len(module.positions), int(module.cls is not None), 1)


MAP = NameMap("open_clip", frozenset({"vit"}), fits, convert)
