"""One recorded training step of VLMo's model classes, run again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.model import Model
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import vlmo as names
from compose_vlp.interop.comparison import Outcome, norms_of
from compose_vlp.interop.format import Format
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.replays.steps import Recorded, gradients, soft_labels, state, text_of, train_step, values
from compose_vlp.interop.vlmo import Layout
from compose_vlp.values import Image, Index, Labels, Number

BLUEPRINTS: Mapping[names.Task, tuple[str, ...]] = {
    "pretrain": ("vlmo_base",),
    "textmlm": ("vlmo_base",),
    "retrieval": ("vlmo_base", "tasks/contrastive_retrieval"),
    "vqa": ("vlmo_base", "tasks/vlmo/vqa"),
    "nlvr2": ("vlmo_base", "tasks/vlmo/nlvr2"),
}
STAGES: Mapping[names.Task, str] = {"pretrain": "pairs", "textmlm": "language"}
"""Where not named: `finetune`."""


UNREAD: Mapping[names.Task, tuple[str, ...]] = dict.fromkeys(
    ("retrieval", "vqa", "nlvr2"), ("text_ids_mlm", "text_labels_mlm")
)
"""What the official batches may hold for every class, and the step of this one does not read."""


ALONE = (
    "~stages.pairs",
    *(f"~losses.{name}" for name in ("itc", "itc_vl", "itm", "mlm")),
    *(f"~outputs.{name}" for name in ("image_embedding", "text_embedding", "match")),
    "joint=upper(lower(join(language=words, vision=patches)))",
    "+outputs.kept=fused",
    "components.upper.experts=[vision, language]",
)
"""The language stage by itself, with what its files hold besides and its step does not read."""


def layout_of(oracle: Oracle) -> Layout:
    """Of a folder's state dict; one of the language stage has no vision-language layers, as its `config.json` says."""
    alone = not any(".mlp_vl." in name for name in oracle.weights)
    return Layout.of(oracle.weights, upper=oracle.config["d"] - oracle.config["vl"] if alone else None)


def settings(oracle: Oracle) -> tuple[tuple[str, ...], list[str]]:
    """The blueprint of a folder, of the sizes that its tensors have; its texts are ids, 1, 2 and 3 standing for CLS,
    SEP and MASK, 0 for padding."""
    config, weights, layout = oracle.config, oracle.weights, layout_of(oracle)
    vocabulary, width = weights["text_embeddings.word_embeddings.weight"].shape
    sizes: dict[str, Any] = {
        "inputs.image.size": config["image"],
        "inputs.caption.max_length": config["L"],
        "components.bert": f"{{use: ids, vocab_size: {vocabulary}, begin: '1', pad: '0', mask: '3'}}",
        "components.patches_of.width": width,
        "components.patches_of.patch": weights["transformer.patch_embed.proj.weight"].shape[-1],
        "components.patches_of.types": layout.types - 1,
        "components.words_of.width": width,
        "components.words_of.dropout": 0,
        "components.lower.depth": layout.lower,
        "components.lower.layers_after": layout.upper,
        "components.upper.depth": layout.upper,
        "components.upper.layers_before": layout.lower,
    }
    for stack in ("lower", "upper"):
        inner = len(weights["transformer.blocks.0.mlp_imag.fc1.weight"])
        stacks: dict[str, Any] = {"heads": config["h"], "drop_path": 0, "mlp_width": inner}
        if layout.relative:
            stacks["positions"] = f"{{use: relative, frame: {config['Linit']}}}"
        else:
            stacks["positions"] = "none"
        if not layout.scaled:
            stacks["layer_scale"] = "null"
        sizes |= {f"components.{stack}.{name}": value for name, value in stacks.items()}
    if layout.absolute:
        sizes |= {f"components.{name}.positions": "learned" for name in ("patches_of", "words_of")}
        sizes["components.words_of.length"] = len(weights["text_embeddings.position_embeddings.weight"])
    if layout.task in ("pretrain", "retrieval"):
        projections = ("image_proj", "text_proj", *(("image_vl", "text_vl") if layout.task == "pretrain" else ()))
        sizes |= {f"components.{name}.out": width for name in projections}
    if layout.task in ("pretrain", "textmlm"):
        sizes["components.masker.whole_words"] = "false"  # the words that were hidden are recorded
        sizes["stages.language.set"] = "{}"  # recorded texts are short, and so is the table of biases
        sizes["stages.language.train"] = '["**"]'  # gradients of all parameters are recorded
    if layout.task == "vqa":
        sizes["components.judge.classes"] = len(weights["vqa_classifier.3.weight"])
        sizes["inputs.question.max_length"] = config["L"]
    if layout.task == "nlvr2":
        sizes["components.patches_of.types"] = max(layout.types - 1, 2)  # one of two begins as the only one
    if layout.task in ("vqa", "nlvr2"):
        sizes["components.judge.hidden"] = len(weights[f"{layout.task}_classifier.0.weight"])
    words = ALONE if layout.task == "textmlm" else ()
    return BLUEPRINTS[layout.task], [*words, *(f"{path}={value}" for path, value in sizes.items())]


def replay(blueprint: CheckedBlueprint, model: Model, oracle: Oracle, without: Collection[str]) -> Outcome:
    """The step's losses, values, gradients and next state, as the folder has them."""
    layout = layout_of(oracle)
    recorded = _recorded[layout.task](blueprint, oracle, next(model.parameters()).device)
    results = _values[layout.task](blueprint, model, recorded)
    losses = train_step(blueprint, model, STAGES.get(layout.task, "finetune"), recorded, without)
    results |= _losses(layout.task, losses)
    rules = names.rules(layout)
    slopes = gradients(model, rules)
    after = state(model, rules, oracle.expected.state)
    return Outcome(results, frozenset(), norms_of(slopes), slopes, after)


def _losses(task: names.Task, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The folder's losses from ours, weighted as the official sum weighs them."""
    if task == "pretrain":
        contrast = (ours["itc"] + ours["itc_vl"]) / 2
        return {"itc_loss": contrast, "itm_loss": ours["itm"], "mlm_loss_weighted": ours["mlm"] / 4}
    return {"loss": next(iter(ours.values()))}


def _texts(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device, ids: str = "text_ids") -> Any:
    oracle.inputs.unread -= {"text_labels", *UNREAD.get(layout_of(oracle).task, ())}
    frame = blueprint.inputs["caption"].max_length  # type: ignore[union-attr]
    return text_of(oracle.inputs[ids], oracle.inputs["text_masks"], frame).to(device)


def _masked(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Any:
    labels = Labels(oracle.inputs["text_labels_mlm"]).to(device)
    return SimpleNamespace(text=_texts(blueprint, oracle, device, "text_ids_mlm"), labels=labels)


def _pretrain(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    image = Image(oracle.inputs["image"]).to(device)
    chosen = (Index(oracle.inputs[f"neg_{name}_index"]).to(device) for name in ("image", "text"))
    negatives = SimpleNamespace(**dict(zip(("image", "text"), chosen, strict=True)))
    batch = {"image": image, "caption": _texts(blueprint, oracle, device)}
    return Recorded(batch, {"neg": negatives, "masked": _masked(blueprint, oracle, device)})


def _textmlm(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    side = oracle.config["image"]
    batch = {
        "image": Image(torch.zeros(oracle.config["B"], 3, side, side)),
        "caption": _texts(blueprint, oracle, device),
    }
    return Recorded(batch, {"masked": _masked(blueprint, oracle, device)})


def _retrieval(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    return Recorded({"image": Image(oracle.inputs["image"]).to(device), "caption": _texts(blueprint, oracle, device)})


def _nlvr2(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    left, right = (Image(oracle.inputs[f"image_{i}"]).to(device) for i in (0, 1))
    text = _texts(blueprint, oracle, device)
    truth = Number(oracle.inputs["answers"]).to(device)
    return Recorded({"image": left, "left": left, "right": right, "caption": text, "statement": text, "truth": truth})


def _vqa(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    text = _texts(blueprint, oracle, device)
    answers = soft_labels("answers", oracle.inputs["vqa_targets"].to(device))
    image = Image(oracle.inputs["image"]).to(device)
    return Recorded({"image": image, "caption": text, "question": text, **answers})


_recorded: Mapping[names.Task, Callable[[CheckedBlueprint, Oracle, torch.device], Recorded]] = {
    "pretrain": _pretrain,
    "textmlm": _textmlm,
    "retrieval": _retrieval,
    "vqa": _vqa,
    "nlvr2": _nlvr2,
}


def _pretrain_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    refs = {name: blueprint.values[name] for name in ("i2t", "matched", "wrong_image", "wrong_text", "predicted")}
    results = values(blueprint, model, refs, recorded)
    judged = [results[name].scores for name in ("matched", "wrong_image", "wrong_text")]
    return {
        "itc_i2t_logits": results["i2t"].scores,
        "itm_logits": torch.cat(judged),
        "mlm_logits": results["predicted"].scores,
    }


def _one(ours: str, official: str) -> Callable[[CheckedBlueprint, Model, Recorded], dict[str, Tensor]]:
    def value(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
        return {official: values(blueprint, model, {ours: blueprint.values[ours]}, recorded)[ours].scores}

    return value


_values: Mapping[names.Task, Callable[[CheckedBlueprint, Model, Recorded], dict[str, Tensor]]] = {
    "pretrain": _pretrain_values,
    "textmlm": _one("recalled", "mlm_logits"),
    "retrieval": _one("i2t", "i2t_logits"),
    "vqa": _one("verdict", "logits"),
    "nlvr2": _one("verdict", "logits"),
}


FORMAT = Format(
    name="vlmo",
    losses=frozenset({"loss", "itc_loss", "itm_loss", "mlm_loss_weighted"}),
    settings=settings,
    import_state=names.import_state,
    replay=replay,
)
