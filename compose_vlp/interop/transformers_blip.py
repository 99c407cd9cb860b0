"""BLIP as transformers 5 has it: `BlipForConditionalGeneration`, `BlipForImageTextRetrieval`,
`BlipForQuestionAnswering`, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert, blip
from compose_vlp.interop.blip import Layout
from compose_vlp.interop.rules import to_theirs

ModelClass: TypeAlias = Literal["BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering"]

TASKS: Mapping[ModelClass, blip.Task] = {
    "BlipForConditionalGeneration": "captioning",
    "BlipForImageTextRetrieval": "itm",
    "BlipForQuestionAnswering": "vqa",
}
"""The library's classes, and the official ones of which they have the tensors."""

BLUEPRINTS: Mapping[ModelClass, tuple[str, ...]] = {
    "BlipForConditionalGeneration": ("blip", "tasks/captioning"),
    "BlipForImageTextRetrieval": ("blip", "tasks/matching"),
    "BlipForQuestionAnswering": ("blip", "tasks/blip/vqa"),
}
"""The blueprints that `overrides` are for."""

HEAD, TABLE = "text_decoder.cls.predictions.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight"
"""The head's table is the embedding's, so that saved files hold it once."""

EDGES = (
    ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
    ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
    ("vision_model.embeddings.patch_embedding.", "visual_encoder.patch_embed.proj."),
    ("vision_model.post_layernorm.", "visual_encoder.norm."),
)
PARTS = (
    ("self_attn.qkv.", "attn.qkv."),
    ("self_attn.projection.", "attn.proj."),
    ("layer_norm1.", "norm1."),
    ("layer_norm2.", "norm2."),
    ("mlp.", "mlp."),
)
"""Beginnings of names in the vision tower, and within its layers: theirs and the official code's. All other names are
the official ones."""


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of one of the three classes under our names, every tensor of it used.

    Numbers of positions and the head's bias, where a file has them a second time, follow from the rest and are left
    out; the head's table, where a file leaves it out, is the embedding's.

    Raises:
        UserError: it is of no such class; a tensor is missing, or one is there that the class does not have.
    """
    if "vision_model.embeddings.class_embedding" not in state:
        raise UserError(
            "no state dict of transformers' BLIP: it has no `vision_model`",
            hints=["the official code's have a `visual_encoder`: format `blip`"],
        )
    official = _renamed(state, _beginnings(bert.depth(state, "vision_model.encoder.layers")))
    if TABLE in official:
        official.setdefault(HEAD, official[TABLE])
    return blip.import_state(official)


def export_state(state: Mapping[str, Tensor], model_class: ModelClass) -> dict[str, Tensor]:
    """The weights of a class under the library's names, for `load_state_dict(strict=True)`.

    `state` are our weights, and may hold more than the class has: a pretrained BLIP is a captioner, and a matcher.

    Raises:
        UserError: a weight of the class is missing.
    """
    layout = _layout(state, TASKS[model_class])
    rules = blip.rules(layout)
    mine = {name: state[name] for rule in rules for name in rule.ours if name in state}
    official = to_theirs(rules, mine)
    derived = [name.replace("decoder.weight", "decoder.bias") for name in official if name == HEAD]
    library_names = {official: library for library, official in _beginnings(layout.vision).items()}
    return _renamed(bert.with_derived(official, derived), library_names)


def _layout(state: Mapping[str, Tensor], task: blip.Task) -> Layout:
    words = {"captioning": "decoder", "vqa": "answerer"}.get(task)
    text = 0 if task == "captioning" else max(bert.depth(state, "text.layers"), 1)
    return Layout(
        task=task,
        vision=bert.depth(state, "vision.layers"),
        text=text,
        words=max(bert.depth(state, f"{words}.layers"), 1) if words else 0,
        merged=text,
        momentum=False,
        queues=False,
    )


def _renamed(state: Mapping[str, Tensor], beginnings: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        old = next((beginning for beginning in beginnings if name.startswith(beginning)), "")
        renamed[beginnings.get(old, "") + name.removeprefix(old)] = tensor
    return renamed


def _beginnings(layers: int) -> dict[str, str]:
    """Map what the library's names in the vision tower begin with to what stands for it in the official code."""
    within = {
        f"vision_model.encoder.layers.{i}.{library}": f"visual_encoder.blocks.{i}.{official}"
        for i in range(layers)
        for library, official in PARTS
    }
    return {**dict(EDGES), **within}


def overrides(config: Mapping[str, Any], model_class: ModelClass) -> list[str]:
    """List what to override in `BLUEPRINTS` for a model of the library's configuration (`config.json`).

    Files leave out what the library's defaults say: `BlipConfig.from_pretrained(...).to_dict()` has all of it.

    Raises:
        UserError: a setting that our layers do not have.
    """
    vision, text = config["vision_config"], config["text_config"]
    _check(vision, text)
    settings: dict[str, Any] = {
        "inputs.image.size": vision["image_size"],
        "components.vision.width": vision["hidden_size"],
        "components.vision.depth": vision["num_hidden_layers"],
        "components.vision.heads": vision["num_attention_heads"],
        "components.vision.mlp_width": vision["intermediate_size"],
        "components.vision.patch": vision["patch_size"],
        "components.vision.norm_eps": vision["layer_norm_eps"],
    }
    tower = {
        "width": text["hidden_size"],
        "depth": text["num_hidden_layers"],
        "heads": text["num_attention_heads"],
        "mlp_width": text["intermediate_size"],
        "norm_eps": text["layer_norm_eps"],
        "length": text["max_position_embeddings"],
        "dropout": text["hidden_dropout_prob"],
        "attention_dropout": text["attention_probs_dropout_prob"],
    }
    for name in TOWERS[model_class]:
        settings |= {f"components.{name}.{key}": value for key, value in tower.items()}
    if model_class in HEADS:
        settings[f"components.{HEADS[model_class]}.norm_eps"] = text["layer_norm_eps"]
    if model_class == "BlipForConditionalGeneration":  # its weights are its own, not shared with an encoder
        settings |= {"components.decoder.share": "{}", "components.decoder.token_types": "false"}
    if model_class == "BlipForImageTextRetrieval":
        width = config["image_text_hidden_size"]
        settings |= {f"components.{name}_proj.out": width for name in ("image", "text")}
    return [f"{path}={value}" for path, value in settings.items()]


TOWERS: Mapping[ModelClass, tuple[str, ...]] = {
    "BlipForConditionalGeneration": ("text", "decoder"),
    "BlipForImageTextRetrieval": ("text",),
    "BlipForQuestionAnswering": ("text", "answerer"),
}
"""Components of the size of the text tower."""

HEADS: Mapping[ModelClass, str] = {"BlipForConditionalGeneration": "lm_head", "BlipForQuestionAnswering": "answer_head"}
"""Components that score the words."""


def _check(vision: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    problems = [
        f"`{section}.hidden_act` is {part['hidden_act']}: these layers have `gelu`"
        for section, part in (("vision_config", vision), ("text_config", text))
        if part["hidden_act"] != "gelu"
    ]
    if text["encoder_hidden_size"] != vision["hidden_size"]:
        problems.append("`text_config.encoder_hidden_size` has to be equal to `vision_config.hidden_size`")
    if problems:
        raise UserError("this is no BLIP that the released weights have the layout of", hints=problems)
