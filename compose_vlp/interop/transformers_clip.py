"""transformers' `CLIPModel`: its state dicts, as `clip.yaml` has them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from compose_vlp.interop.open_clip_coca import layers_in
from compose_vlp.interop.rules import Rule, named, same, to_ours, to_theirs


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the library's CLIP under our names, every tensor of it used; numbers of positions, which older
    files have, are left out.

    Raises:
        UserError: a tensor is missing, or one is there that `CLIPModel` does not have.
    """
    weights = {name: tensor for name, tensor in state.items() if not name.endswith(".position_ids")}
    vision, text = (layers_in(weights, f"{tower}_model.encoder.layers.") for tower in ("vision", "text"))
    return to_ours(rules(vision, text), weights)


def export_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the library's names, for `load_state_dict(strict=True)`.

    Raises:
        UserError: a tensor is missing, or one is there that `CLIPModel` does not have.
    """
    return to_theirs(rules(layers_in(state, "vision.layers."), layers_in(state, "text.layers.")), state)


def rules(vision: int, text: int) -> list[Rule]:
    """All tensors of a model with so many layers."""
    pictures, words = "vision_model.embeddings", "text_model.embeddings"
    return [
        same(f"{pictures}.class_embedding", "vision.cls"),
        same(f"{pictures}.patch_embedding.weight", "vision.stem.projection.weight"),
        same(f"{pictures}.position_embedding.weight", "vision.positions"),
        *named("vision_model.pre_layrnorm", "vision.embedding_norm"),  # so the library spells it
        *_layers("vision", vision),
        *named("vision_model.post_layernorm", "vision.norm"),
        same("visual_projection.weight", "image_proj.map.weight"),
        same(f"{words}.token_embedding.weight", "text.embedding.weight"),
        same(f"{words}.position_embedding.weight", "text.positions"),
        *_layers("text", text),
        *named("text_model.final_layer_norm", "text.norm"),
        same("text_projection.weight", "text_proj.map.weight"),
        same("logit_scale", "similarity.log_scale", "scalar"),
    ]


def _layers(tower: str, count: int) -> list[Rule]:
    layer_rules = []
    for i in range(count):
        layer, ours = f"{tower}_model.encoder.layers.{i}", f"{tower}.layers.{i}"
        attention = f"{ours}.self_attention"
        for suffix in ("weight", "bias"):
            maps = tuple(f"{layer}.self_attn.{part}_proj.{suffix}" for part in "qkv")
            layer_rules.append(Rule(maps, (f"{attention}.branch.qkv.{suffix}",)))
        layer_rules += [
            *named(f"{layer}.layer_norm1", f"{attention}.norm"),
            *named(f"{layer}.self_attn.out_proj", f"{attention}.branch.out"),
            *named(f"{layer}.layer_norm2", f"{ours}.ffn.norm"),
            *named(f"{layer}.mlp.fc1", f"{ours}.ffn.branch.fc1"),
            *named(f"{layer}.mlp.fc2", f"{ours}.ffn.branch.fc2"),
        ]
    return layer_rules
