"""One recorded training step of BEiT-3's model classes, run again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.model import Model
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import beit3 as names
from compose_vlp.interop.beit3 import Layout
from compose_vlp.interop.comparison import Outcome, norms_of
from compose_vlp.interop.format import Format
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.replays.steps import Recorded, gradients, soft_labels, state, text_of, train_step, values
from compose_vlp.interop.rules import rows_of
from compose_vlp.values import Image, Labels, Number

TASKS: Mapping[names.Task, str] = {
    "retrieval": "tasks/beit3/retrieval",
    "vqa": "tasks/beit3/vqa",
    "nlvr2": "tasks/beit3/nlvr2",
    "classification": "tasks/beit3/classification",
    "pretrain": "tasks/beit3/captioning",
}
"""What is laid over `beit3_base`; of pretraining nothing is recorded, and captioning has its tensors."""
MAPPED = ("image_proj", "text_proj")
IGNORED = -100


def settings(oracle: Oracle) -> tuple[tuple[str, ...], list[str]]:
    """The blueprint of a folder, of the sizes that its tensors have; its texts are ids, 0, 1 and 2 standing for begin,
    padding and end."""
    config, weights, layout = oracle.config, oracle.weights, Layout.of(oracle.weights)
    vocabulary, width = weights["beit3.text_embed.weight"].shape
    rows = len(weights["beit3.encoder.embed_positions.B.weight"])
    sizes: dict[str, Any] = {
        "inputs.image.size": config["image"],
        "inputs.caption.max_length": config["L"],
        "components.spm": f"{{use: ids, vocab_size: {vocabulary}, begin: '0', pad: '1', end: '2', mask: '3'}}",
        "components.patches_of.width": width,
        "components.patches_of.patch": weights["beit3.vision_embed.proj.weight"].shape[-1],
        "components.words_of.width": width,
        "components.words_of.length": rows - 2,
        "components.backbone.depth": layout.depth,
        "components.backbone.heads": config["h"],
        "components.backbone.mlp_width": len(weights["beit3.encoder.layers.0.ffn.A.fc1.weight"]),
        "components.backbone.final_norm": str(layout.final_norm).lower(),
        "components.backbone.drop_path": 0,
    }
    if layout.codes:  # no recorded step reads pretraining's heads, whose weights are taken all the same
        rows = rows_of(weights, "mim_head.weight")
        sizes["+components.code_head"] = f"{{use: linear_head, classes: {rows}}}"
        sizes["+outputs.image_codes"] = "code_head(backbone(patches_of(image)).tokens)"
    if layout.words and layout.task != "pretrain":
        sizes["+components.word_head"] = "{use: lm_head, bias: true}"
        sizes["+outputs.words"] = "word_head(backbone(words_of(caption)))"
    if layout.task == "retrieval":
        sizes |= {f"components.{name}.out": width for name in MAPPED}
    if layout.task == "vqa":
        sizes["inputs.question.max_length"] = config["L"]
        sizes["components.judge.hidden"] = len(weights["head.0.weight"])
        sizes["components.judge.classes"] = len(weights["head.3.weight"])
    if layout.task == "nlvr2":
        sizes["components.judge.hidden"] = len(weights["head.dense1.weight"])
    if layout.task == "classification":
        sizes["components.judge.classes"] = len(weights["head.weight"])
        sizes["losses.classes.label_smoothing"] = 0  # what was recorded is plain
    if layout.task == "pretrain":
        sizes["outputs.caption.max_length"] = config["L"]
        sizes |= {"losses.lm.label_smoothing": 0, "losses.lm.drop_worst": 0}  # what was recorded is plain
    return ("beit3_base", TASKS[layout.task]), [f"{path}={value}" for path, value in sizes.items()]


def replay(blueprint: CheckedBlueprint, model: Model, oracle: Oracle, without: Collection[str]) -> Outcome:
    """The step's loss, values, gradients and next state, as the folder has them."""
    layout = Layout.of(oracle.weights)
    recorded = _recorded[layout.task](blueprint, oracle, next(model.parameters()).device)
    results = _values[layout.task](blueprint, model, recorded)
    loss = next(iter(train_step(blueprint, model, "finetune", recorded, without).values()))
    results["loss_plain_ce" if layout.task == "pretrain" else "loss"] = loss
    rules = names.rules(layout)
    slopes = gradients(model, rules)
    return Outcome(results, frozenset(), norms_of(slopes), slopes, state(model, rules, oracle.expected.state))


def _texts(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device, ids: str = "text_ids") -> Any:
    frame = blueprint.inputs["caption"].max_length  # type: ignore[union-attr]
    return text_of(oracle.inputs[ids], oracle.inputs["padding_mask"] == 0, frame).to(device)


def _retrieval(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    return Recorded({"image": Image(oracle.inputs["image"]).to(device), "caption": _texts(blueprint, oracle, device)})


def _vqa(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    text = _texts(blueprint, oracle, device)
    answers = soft_labels("answers", oracle.inputs["targets"].to(device))
    return Recorded({"image": Image(oracle.inputs["image"]).to(device), "caption": text, "question": text, **answers})


def _nlvr2(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    left, right = (Image(oracle.inputs[f"image_{name}"]).to(device) for name in "ab")
    text, truth = _texts(blueprint, oracle, device), Number(oracle.inputs["targets"]).to(device)
    return Recorded({"image": left, "left": left, "right": right, "caption": text, "statement": text, "truth": truth})


def _classification(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:  # noqa: ARG001
    classes = Number(oracle.inputs["targets"]).to(device)
    return Recorded({"image": Image(oracle.inputs["image"]).to(device), "class": classes})


def _captioning(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    shown = oracle.inputs["masked_pos"] == 0
    labels = Labels(oracle.inputs["text_ids"].masked_fill(shown, IGNORED)).to(device)
    written = SimpleNamespace(text=_texts(blueprint, oracle, device, "masked_ids"), labels=labels)
    return Recorded(_retrieval(blueprint, oracle, device).batch, {"written": written})


_recorded: Mapping[names.Task, Callable[[CheckedBlueprint, Oracle, torch.device], Recorded]] = {
    "retrieval": _retrieval,
    "vqa": _vqa,
    "nlvr2": _nlvr2,
    "classification": _classification,
    "pretrain": _captioning,
}


def _retrieval_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    refs = {name: blueprint.values[name] for name in ("image_embedding", "text_embedding")}
    results = values(blueprint, model, refs, recorded)
    return {"vision_cls": results["image_embedding"].features, "language_cls": results["text_embedding"].features}


def _verdict(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    results = values(blueprint, model, {"verdict": blueprint.values["verdict"]}, recorded)
    return {"logits": results["verdict"].scores}


def _captioning_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    """Scores of all words, nothing hidden, and of the hidden words at their places."""
    refs = {name: blueprint.values[name] for name in ("writing", "predicted")}
    results = values(blueprint, model, refs, recorded)
    hidden = recorded.choices["written"].labels.ids != IGNORED
    return {"logits_full": results["writing"].scores, "logits_at_masked": results["predicted"].scores[hidden]}


_values: Mapping[names.Task, Callable[[CheckedBlueprint, Model, Recorded], dict[str, Tensor]]] = {
    "retrieval": _retrieval_values,
    "vqa": _verdict,
    "nlvr2": _verdict,
    "classification": _verdict,
    "pretrain": _captioning_values,
}


FORMAT = Format(
    name="beit3",
    losses=frozenset({"loss", "loss_plain_ce"}),
    settings=settings,
    import_state=names.import_state,
    replay=replay,
)
