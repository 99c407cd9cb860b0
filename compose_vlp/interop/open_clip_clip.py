"""open_clip's CLIP (release 3.3) with its own two towers: its state dicts, as `clip.yaml` has them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from compose_vlp.interop.open_clip_coca import layer_rules, layers_in
from compose_vlp.interop.rules import Rule, named, same, to_ours, to_theirs


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An open_clip state dict under our names, every tensor of it used.

    Raises:
        UserError: a tensor is missing, or one is there that this CLIP does not have (a timm or Hugging Face tower).
    """
    vision, text = layers_in(state, "visual.transformer.resblocks."), layers_in(state, "transformer.resblocks.")
    return to_ours(rules(vision, text), state)


def export_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under open_clip's names, for `load_state_dict(strict=True)`.

    Raises:
        UserError: a tensor is missing, or one is there that open_clip's CLIP does not have.
    """
    return to_theirs(rules(layers_in(state, "vision.layers."), layers_in(state, "text.layers.")), state)


def rules(vision: int, text: int) -> list[Rule]:
    """All tensors of a model with so many layers."""
    tower = [
        rule for i in range(vision) for rule in layer_rules(f"visual.transformer.resblocks.{i}", f"vision.layers.{i}")
    ]
    words = [rule for i in range(text) for rule in layer_rules(f"transformer.resblocks.{i}", f"text.layers.{i}")]
    return [
        same("visual.conv1.weight", "vision.stem.projection.weight"),
        same("visual.class_embedding", "vision.cls"),
        same("visual.positional_embedding", "vision.positions"),
        *named("visual.ln_pre", "vision.embedding_norm"),
        *tower,
        *named("visual.ln_post", "vision.norm"),
        same("visual.proj", "image_proj.map.weight", "transposed"),
        same("token_embedding.weight", "text.embedding.weight"),
        same("positional_embedding", "text.positions"),
        *words,
        *named("ln_final", "text.norm"),
        same("text_projection", "text_proj.map.weight", "transposed"),
        same("logit_scale", "similarity.log_scale", "scalar"),
    ]
