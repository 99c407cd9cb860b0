"""Folders that open_clip loads (`local-dir:`): its CLIP with two towers of its own, and its CoCa."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.components.tokenizers.clip_bpe import ClipBytePairs
from compose_vlp.interop import open_clip_clip, open_clip_coca
from compose_vlp.interop.libraries.library import Library, State
from compose_vlp.interop.libraries.pictures import open_clip_misfits, open_clip_settings
from compose_vlp.interop.libraries.shape import LibraryClass
from compose_vlp.interop.libraries.texts import library_tokenizer
from compose_vlp.interop.libraries.transformers_config import end_of, input_of
from compose_vlp.runtime.inference.outputs import Asker

_ACTIVATION: Final = frozenset({"activation"})
CLIP: Final = LibraryClass(
    "CLIP",
    "clip",
    ("image_embedding", "text_embedding"),
    {"vision": _ACTIVATION, "text": _ACTIVATION},
    also=("similarity",),
)
COCA: Final = LibraryClass(
    "CoCa",
    open_clip_coca.BLUEPRINT,
    ("image_embedding", "text_embedding", "caption"),
    {
        "vision": _ACTIVATION | {"embedding_norm"},
        "unimodal": _ACTIVATION,
        "multimodal": _ACTIVATION,
    },
    also=("similarity",),
)
TOWERS: Final = {"CLIP": ("vision", "text"), "CoCa": ("vision", "unimodal", "multimodal")}
DECODER_WIDTHS: Final = 4
"""The MLP of open_clip's multimodal decoder has so many widths, whatever its configuration says."""


def problems(of_class: LibraryClass, asker: Asker, state: State) -> list[str]:
    """Tell what of a model of the class's shape open_clip has no place for."""
    del state
    name, made = input_of(asker.blueprint, ImageInput)
    text_name, text = input_of(asker.blueprint, TextInput)
    lines = open_clip_misfits(name, made)
    configs = {tower: asker.blueprint.components[tower].config for tower in TOWERS[of_class.name]}
    acts = {tower: config.activation or "gelu" for tower, config in configs.items()}
    if len(set(acts.values())) > 1 or not set(acts.values()) <= {"gelu", "quick_gelu"}:
        departures = ", ".join(f"components.{tower}.activation is {act}" for tower, act in acts.items())
        lines.append(f"{departures}, where it has gelu or quick_gelu for all")
    if "multimodal" in configs:
        widths = (configs["multimodal"].mlp_width or 0) / configs["multimodal"].width
        if widths not in (0, DECODER_WIDTHS):
            lines.append(f"components.multimodal.mlp_width is {widths:g} widths, where it has {DECODER_WIDTHS}")
        if asker.blueprint.components["image_proj"].config.out != configs["multimodal"].width:
            lines.append("components.image_proj.out and components.multimodal.width differ, where it has one")
    if end_of(asker, text) is None:
        lines.append(f"inputs.{text_name} has no end token, at which it reads a text")
    return lines


def write(classes: Sequence[LibraryClass], asker: Asker, state: State, folder: Path) -> list[str]:
    """Write configuration, weights and, unless it is CLIP's own, the tokenizer."""
    (of_class,) = classes
    _, picture = input_of(asker.blueprint, ImageInput)
    model = _clip(asker) if of_class is CLIP else _coca(asker)
    remarks = _tokenizer(asker, model["text_cfg"], folder)
    document = {"model_cfg": model, "preprocess_cfg": open_clip_settings(picture)}
    (folder / "open_clip_config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    mine = {name: tensor for name, tensor in state.items() if name.split(".")[0] in of_class.components()}
    exported = (open_clip_clip if of_class is CLIP else open_clip_coca).export_state(mine)
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in exported.items()}
    save_file(content, folder / "open_clip_model.safetensors", {"format": "pt"})
    return remarks


def _clip(asker: Asker) -> dict[str, Any]:
    components = asker.blueprint.components
    _, made = input_of(asker.blueprint, TextInput)
    return {
        "embed_dim": components["image_proj"].config.out,
        "quick_gelu": components["vision"].config.activation == "quick_gelu",
        "vision_cfg": _vision(components["vision"].config),
        "text_cfg": {
            **_words(components["text"].config),
            "pool_type": "eos",
            "eos_id": end_of(asker, made),
        },
    }


def _coca(asker: Asker) -> dict[str, Any]:
    components = asker.blueprint.components
    _, made = input_of(asker.blueprint, TextInput)
    pool, words, upper = (components[name].config for name in ("pool", "unimodal", "multimodal"))
    pad = asker.tokenizers[made.tokenizer].pad_id
    return {
        "embed_dim": components["image_proj"].config.out,
        "quick_gelu": components["vision"].config.activation == "quick_gelu",
        "custom_text": True,
        "pad_id": pad,
        "vision_cfg": {
            **_vision(components["vision"].config),
            "no_ln_pre": not components["vision"].config.embedding_norm,
            "attentional_pool": True,
            "attn_pooler_queries": pool.queries,
            "attn_pooler_heads": pool.heads,
            "output_tokens": True,
        },
        "text_cfg": {
            **_words(words),
            "pad_id": pad,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {
            "context_length": words.length,
            "vocab_size": words.vocab_size,
            "width": upper.width,
            "heads": upper.heads,
            "layers": upper.depth,
        },
    }


def _vision(config: Any) -> dict[str, Any]:
    sizes = {"image_size": config.size, "patch_size": config.patch, "head_width": config.width // config.heads}
    return {**sizes, **_tower(config)}


def _words(config: Any) -> dict[str, Any]:
    sizes = {"context_length": config.length, "vocab_size": config.vocab_size, "heads": config.heads}
    return {**sizes, **_tower(config)}


def _tower(config: Any) -> dict[str, Any]:
    return {
        "width": config.width,
        "layers": config.depth,
        "mlp_ratio": (config.mlp_width or 4 * config.width) / config.width,
    }


def _tokenizer(asker: Asker, text: dict[str, Any], folder: Path) -> list[str]:
    """Put the tokenizer beside the weights; CLIP's own is open_clip's default, and needs no file."""
    _, made = input_of(asker.blueprint, TextInput)
    ours = asker.tokenizers[made.tokenizer]
    if isinstance(ours, ClipBytePairs) and ours.config.clean == "clip" and not ours.config.tokens and not made.clean:
        return []
    converted = library_tokenizer(ours, made, pad=str(ours.role("pad")))
    if converted is None:
        kind = asker.blueprint.components[made.tokenizer].kind.name
        return [f"the tokenizer is not in the folder: {kind} has no tokenizer.json"]
    converted.save_pretrained(folder)
    text["hf_tokenizer_name"] = "."  # any name: of a local folder the folder's own is read
    return []


LIBRARY: Final = Library((CLIP, COCA), problems, write)
