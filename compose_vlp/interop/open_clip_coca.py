"""open_clip's CoCa (release 3.3): its configurations and state dicts, as `coca_openclip_*.yaml` have them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.interop.rules import Rule, named, same, to_ours, to_theirs

BLUEPRINT = "coca_openclip_vit_b_32"
"""The blueprint that `overrides` are for."""


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An open_clip state dict under our names (`vision.layers.0...`), every tensor of it used.

    Raises:
        UserError: a tensor is missing, or one is there that CoCa with one pooler does not have.
    """
    return to_ours(rules(Layout.of_theirs(state)), state)


def export_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights (or gradients) under open_clip's names, for `load_state_dict(strict=True)`.

    Raises:
        UserError: a tensor is missing, or one is there that open_clip's CoCa does not have.
    """
    return to_theirs(rules(Layout.of_ours(state)), state)


@dataclass(frozen=True)
class Layout:
    """The facts behind the names: depths, and whether the pooler's keys have a map of their own."""

    vision: int
    text: int
    multimodal: int
    own_maps: bool
    embedding_norm: bool

    @classmethod
    def of_theirs(cls, state: Iterable[str]) -> Layout:
        """Read off the names of an open_clip state dict."""
        names = set(state)
        return cls(
            _depth(names, r"visual\.transformer\.resblocks\.(\d+)\."),
            _depth(names, r"text\.transformer\.resblocks\.(\d+)\."),
            _depth(names, r"text_decoder\.resblocks\.(\d+)\."),
            "visual.attn_pool.attn.in_proj_weight" not in names,
            "visual.ln_pre.weight" in names,
        )

    @classmethod
    def of_ours(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off our names, and off the shape of the pooler's map."""
        keys = state.get("pool.attention.kv.weight")
        return cls(
            _depth(state, r"vision\.layers\.(\d+)\."),
            _depth(state, r"unimodal\.layers\.(\d+)\."),
            _depth(state, r"multimodal\.layers\.(\d+)\."),
            keys is None or keys.shape[0] != 2 * keys.shape[1],
            "vision.embedding_norm.weight" in state,
        )


def _depth(names: Iterable[str], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1)


def layers_in(names: Iterable[str], stem: str) -> int:
    """Count the layers of a tower whose tensors' names begin with `stem`, before the layer's number."""
    return _depth(names, rf"{re.escape(stem)}(\d+)\.")


def rules(layout: Layout) -> list[Rule]:
    """All tensors of the model."""
    return [
        *_vision(layout),
        *_pooler(own_maps=layout.own_maps),
        *_text(layout),
        *_multimodal(layout),
        same("logit_scale", "similarity.log_scale", "scalar"),
    ]


def _vision(layout: Layout) -> list[Rule]:
    tower_rules = [
        same("visual.conv1.weight", "vision.stem.projection.weight"),
        same("visual.class_embedding", "vision.cls"),
        same("visual.positional_embedding", "vision.positions"),
    ]
    if layout.embedding_norm:
        tower_rules += named("visual.ln_pre", "vision.embedding_norm")
    for i in range(layout.vision):
        tower_rules += layer_rules(f"visual.transformer.resblocks.{i}", f"vision.layers.{i}")
    return tower_rules


def _pooler(*, own_maps: bool) -> list[Rule]:
    official, ours = "visual.attn_pool", "pool"
    attn, attention = f"{official}.attn", f"{ours}.attention"
    kv = (f"{attn}.k_proj_weight", f"{attn}.v_proj_weight")
    weights = [
        same(f"{attn}.q_proj_weight", f"{attention}.q.weight"),
        Rule(kv, (f"{attention}.kv.weight",)),
    ]
    return [
        same(f"{official}.query", f"{ours}.queries"),
        *named(f"{official}.ln_q", f"{ours}.query_norm"),
        *named(f"{official}.ln_k", f"{attention}.context_norm"),
        *(weights if own_maps else [_cross(attn, attention, "weight")]),
        _cross(attn, attention, "bias"),
        *named(f"{attn}.out_proj", f"{attention}.out"),
        *named("visual.ln_post", f"{ours}.norm"),
        same("visual.proj", "image_proj.map.weight", "transposed"),
    ]


def _text(layout: Layout) -> list[Rule]:
    tower_rules = [
        same("text.token_embedding.weight", "unimodal.embedding.weight"),
        same("text.positional_embedding", "unimodal.positions"),
        same("text.cls_emb", "unimodal.cls"),
        *named("text.ln_final", "unimodal.norm"),
        same("text.text_projection", "text_proj.map.weight", "transposed"),
    ]
    for i in range(layout.text):
        tower_rules += layer_rules(f"text.transformer.resblocks.{i}", f"unimodal.layers.{i}")
    return tower_rules


def _multimodal(layout: Layout) -> list[Rule]:
    tower_rules = [
        *named("text_decoder.ln_final", "multimodal.norm"),
        same("text_decoder.text_projection", "lm_head.weight", "transposed"),
    ]
    for i in range(layout.multimodal):
        layer = f"multimodal.layers.{i}"
        tower_rules += layer_rules(f"text_decoder.resblocks.{i}", layer, ffn="self_ffn")
        official, ours = f"text_decoder.cross_attn.{i}", f"{layer}.cross_attention"
        tower_rules += [
            *named(f"{official}.ln_1", f"{ours}.norm"),
            *named(f"{official}.ln_1_kv", f"{ours}.branch.context_norm"),
            *(_cross(f"{official}.attn", f"{ours}.branch", suffix) for suffix in ("weight", "bias")),
            *named(f"{official}.attn.out_proj", f"{ours}.branch.out"),
            *_ffn(official, f"{layer}.ffn"),
        ]
    return tower_rules


def layer_rules(official: str, ours: str, ffn: str = "ffn") -> list[Rule]:
    """A transformer layer of open_clip: its self-attention, and the FFN after it."""
    return [
        *named(f"{official}.ln_1", f"{ours}.self_attention.norm"),
        same(f"{official}.attn.in_proj_weight", f"{ours}.self_attention.branch.qkv.weight"),
        same(f"{official}.attn.in_proj_bias", f"{ours}.self_attention.branch.qkv.bias"),
        *named(f"{official}.attn.out_proj", f"{ours}.self_attention.branch.out"),
        *_ffn(official, f"{ours}.{ffn}"),
    ]


def _ffn(official: str, ours: str) -> list[Rule]:
    return [
        *named(f"{official}.ln_2", f"{ours}.norm"),
        *named(f"{official}.mlp.c_fc", f"{ours}.branch.fc1"),
        *named(f"{official}.mlp.c_proj", f"{ours}.branch.fc2"),
    ]


def _cross(official: str, ours: str, suffix: str) -> Rule:
    return Rule((f"{official}.in_proj_{suffix}",), (f"{ours}.q.{suffix}", f"{ours}.kv.{suffix}"), shares=(1, 2))


# --- configurations ---------------------------------------------------------------------------------------------

IGNORED = {
    "": {"custom_text", "init_logit_bias", "cast_dtype"},
    "vision_cfg": {"output_tokens"},
    "text_cfg": {"output_tokens", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "eos_id", "pool_type"},
    "multimodal_cfg": {"context_length", "vocab_size", "dim_head", "n_queries", "attn_pooler_heads", "mlp_ratio"},
}
"""Keys that change nothing in open_clip's CoCa: the CLS stands for `pool_type`, and the decoder's MLP is never told its
ratio."""

TAKEN = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg", "quick_gelu", "init_logit_scale", "pad_id"},
    "vision_cfg": {
        "image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "no_ln_pre", "attentional_pool",
        "attn_pooler_queries", "attn_pooler_heads",
    },
    "text_cfg": {
        "context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "embed_cls", "pad_id",
        "correct_cls_mask",
    },
    "multimodal_cfg": {"width", "heads", "layers"},
}  # fmt: skip
"""Keys that `overrides` reads."""


def overrides(config: Mapping[str, Any]) -> list[str]:
    """List what to override in `BLUEPRINT` for a model of open_clip's configuration (`model_configs/*.json`).

    Raises:
        UserError: a setting that this layout does not have (a timm or Hugging Face tower, two poolers, none).
    """
    _check(config)
    vision, text, multimodal = (config[name] for name in ("vision_cfg", "text_cfg", "multimodal_cfg"))
    width, text_width = vision.get("width", 768), text.get("width", 512)
    settings: dict[str, Any] = {
        "inputs.image.size": vision.get("image_size", 224),
        "inputs.caption.max_length": text.get("context_length", 77),
        "outputs.caption.max_length": min(30, text.get("context_length", 77)),
        "components.vision.width": width,
        "components.vision.depth": vision.get("layers", 12),
        "components.vision.heads": width // vision.get("head_width", 64),
        "components.vision.mlp_width": int(width * vision.get("mlp_ratio", 4.0)),
        "components.vision.patch": vision.get("patch_size", 16),
        "components.vision.embedding_norm": not vision.get("no_ln_pre", False),
        "components.pool.queries": vision.get("attn_pooler_queries", 256),
        "components.pool.heads": vision.get("attn_pooler_heads", 8),
        "components.pool.width": config["embed_dim"],
        "components.unimodal.width": text_width,
        "components.unimodal.depth": text.get("layers", 12),
        "components.unimodal.heads": text.get("heads", 8),
        "components.unimodal.mlp_width": int(text_width * text.get("mlp_ratio", 4.0)),
        "components.unimodal.cls_mask": "correct" if text.get("correct_cls_mask") else "shifted",
        "components.multimodal.depth": multimodal.get("layers", 12),
        "components.multimodal.heads": multimodal.get("heads", 8),
        "components.multimodal.mlp_width": 4 * text_width,
        "components.image_proj.out": config["embed_dim"],
        "components.text_proj.out": config["embed_dim"],
    }
    if config.get("quick_gelu"):
        settings |= {f"components.{name}.activation": "quick_gelu" for name in ("vision", "unimodal", "multimodal")}
    return [f"{path}={_written(value)}" for path, value in settings.items()]


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(config: Mapping[str, Any]) -> None:
    problems = []
    for section, taken in TAKEN.items():
        part = config.get(section) if section else config
        if not isinstance(part, Mapping):
            problems.append(f"`{section}` is missing")
            continue
        known = taken | IGNORED[section]
        for key in part.keys() - known:
            near = " ".join(did_you_mean(key, known))
            problems.append(
                f"`{'.'.join(filter(None, (section, key)))}` is nothing that this layout has {near}".strip()
            )
    if not problems:
        problems = _misfits(config)
    if problems:
        raise UserError("this is no CoCa that open_clip's released weights have the layout of", hints=problems)


def _misfits(config: Mapping[str, Any]) -> list[str]:
    vision, text, multimodal = (config[name] for name in ("vision_cfg", "text_cfg", "multimodal_cfg"))
    problems = []
    if vision.get("attentional_pool") is not True:
        problems.append("`vision_cfg.attentional_pool` has to be true: one pooler, whose first query is the image's")
    if not text.get("embed_cls"):
        problems.append("`text_cfg.embed_cls` has to be true")
    if multimodal.get("width", 512) != text.get("width", 512):
        problems.append("`multimodal_cfg.width` and `text_cfg.width` have to be equal")
    if multimodal.get("width", 512) != config["embed_dim"]:
        problems.append("`multimodal_cfg.width` and `embed_dim` have to be equal")
    return problems
