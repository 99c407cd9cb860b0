"""timm's and DeiT's vision transformers into our `vit`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from compose_vlp.interop.maps.name_map import Converted, NameMap, State, by_rules, refuse
from compose_vlp.interop.maps.positions import fit_positions
from compose_vlp.interop.rules import Rule, named, rows_of, same

REFUSED = {
    ".ls1.gamma": "layer scale",
    ".gamma_1": "layer scale",
    ".attn.q_norm.weight": "norms of queries",
    "reg_token": "register tokens",
    "dist_token": "a distillation token",
    "relative_position_bias_table": "relative positions",
}
"""Endings of names, and what they mean: a model that has them gives other numbers without."""


def fits(names: Collection[str], _: nn.Module) -> bool:
    """Are these the names of timm's VisionTransformer?"""
    return {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= set(names)


def convert(state: State, module: Any) -> Converted:
    """`blocks.3.attn.qkv` is `layers.3.self_attention.branch.qkv`; positions are resized, heads are left over."""
    refuse(state, REFUSED, "the file's ViT")
    flat = {
        **state,
        **{name: state[name].reshape(-1) for name in ("cls_token",) if name in state},
        **{name: state[name].flatten(0, -2) for name in ("pos_embed",) if name in state and state[name].ndim > 1},
    }
    converted = by_rules(rules(len(module.layers)), flat, module)
    if module.positions is None or "pos_embed" not in state:
        return converted
    patches = rows_of(flat, "pos_embed") - 1
    has_cls = "cls_token" in state and round(max(patches, 0) ** 0.5) ** 2 == patches
    return fit_positions(converted, "positions", len(module.positions), int(module.cls is not None), int(has_cls))


def rules(depth: int) -> list[Rule]:
    """The tensors of a tower of `depth` layers."""
    all_rules = [
        same("cls_token", "cls"),
        same("pos_embed", "positions"),
        *named("patch_embed.proj", "stem.projection"),
        *named("norm_pre", "embedding_norm"),
        *named("norm", "norm"),
    ]
    for i in range(depth):
        block, ours = f"blocks.{i}", f"layers.{i}"
        all_rules += [
            *named(f"{block}.norm1", f"{ours}.self_attention.norm"),
            *named(f"{block}.attn.qkv", f"{ours}.self_attention.branch.qkv"),
            *named(f"{block}.attn.proj", f"{ours}.self_attention.branch.out"),
            *named(f"{block}.norm2", f"{ours}.ffn.norm"),
            *named(f"{block}.mlp.fc1", f"{ours}.ffn.branch.fc1"),
            *named(f"{block}.mlp.fc2", f"{ours}.ffn.branch.fc2"),
        ]
    return all_rules


MAP = NameMap("timm", frozenset({"vit"}), fits, convert)
