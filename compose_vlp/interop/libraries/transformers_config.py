"""A model's sizes as the configurations of transformers say them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.components.decoders.text_decoder import TextDecoder, heads_of
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.inference.outputs import Asker

if TYPE_CHECKING:
    from transformers import BlipConfig, CLIPConfig

Sort = TypeVar("Sort", ImageInput, TextInput)


def input_of(checked: CheckedBlueprint, sort: type[Sort]) -> tuple[str, Sort]:
    """Give the first input of this sort, with its name: that which the class's processor reads."""
    return next((name, made) for name, made in checked.inputs.items() if isinstance(made, sort))


def end_of(asker: Asker, made: TextInput) -> int | None:
    """Give the id that ends such a text."""
    return asker.tokenizers[made.tokenizer].end_id if made.end else None


def tower_of(name: str) -> str:
    """Name the tower over words whose sizes a class of BLIP's configuration says."""
    return {"BlipForConditionalGeneration": "decoder", "BlipForQuestionAnswering": "answerer"}.get(name, "text")


def blip_config(name: str, asker: Asker) -> BlipConfig:
    """Write the configuration of a class of BLIP's."""
    from transformers import BlipConfig

    components = asker.blueprint.components
    vision, text = components["vision"].config, components[tower_of(name)].config
    _, made = input_of(asker.blueprint, TextInput)
    tokenizer = asker.tokenizers[made.tokenizer]
    words = {
        **_tower(text, heads_of(text) if isinstance(text, TextDecoder.Config) else text.heads),
        "encoder_hidden_size": vision.width,
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.length,
        "hidden_act": "gelu",
        "hidden_dropout_prob": text.dropout,
        "attention_probs_dropout_prob": text.attention_dropout,
        "bos_token_id": tokenizer.special.get("[DEC]"),
        "eos_token_id": tokenizer.end_id,
        "sep_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.pad_id,
    }
    pictures = {**_tower(vision, vision.heads), **_patches(vision), "hidden_act": "gelu"}
    projected = components["image_proj"].config.out if "image_proj" in components else 256
    return BlipConfig(vision_config=pictures, text_config=words, image_text_hidden_size=projected)


def clip_config(asker: Asker) -> CLIPConfig:
    """Write the configuration of a `CLIPModel`."""
    from transformers import CLIPConfig

    components = asker.blueprint.components
    vision, text = components["vision"].config, components["text"].config
    _, made = input_of(asker.blueprint, TextInput)
    tokenizer, out = asker.tokenizers[made.tokenizer], components["image_proj"].config.out
    words = {
        **_tower(text, text.heads),
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.length,
        "hidden_act": text.activation or "gelu",
        "projection_dim": out,
        "bos_token_id": tokenizer.begin_id,
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.end_id,
    }
    pictures = {
        **_tower(vision, vision.heads),
        **_patches(vision),
        "hidden_act": vision.activation or "gelu",
        "projection_dim": out,
    }
    return CLIPConfig(vision_config=pictures, text_config=words, projection_dim=out)


def _tower(config: Any, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": heads,
        "intermediate_size": config.mlp_width or 4 * config.width,
        "layer_norm_eps": config.norm_eps,
    }


def _patches(config: Any) -> dict[str, Any]:
    return {"image_size": config.size, "patch_size": config.patch}
