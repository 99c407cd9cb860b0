"""One recorded training step of each of ALBEF's model classes, run again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.model import Model
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import albef as names
from compose_vlp.interop.albef import Layout
from compose_vlp.interop.comparison import Outcome, norms_of
from compose_vlp.interop.format import Format, by_itself
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.replays.answers import answerer, answers, ranked
from compose_vlp.interop.replays.steps import Recorded, gradients, state, text_of, train_step, values
from compose_vlp.values import Image, Index, Labels, Number

BLUEPRINTS: Mapping[names.Task, tuple[str, ...]] = {
    "pretrain": ("albef",),
    "retrieval": ("albef", "tasks/albef/retrieval"),
    "ve": ("albef", "tasks/albef/entailment"),
    "vqa": ("albef", "tasks/albef/vqa", "tasks/ranked_vqa"),
    "nlvr": ("albef", "tasks/albef/nlvr2"),
}
STAGES: Mapping[names.Task, str] = {"pretrain": "pretrain"}
"""Where not named: `finetune`."""


SEVENTH = 6
NOISES = ("dropout", "attention_dropout")
"""Settings of BERT's towers that are 0 in a recorded step."""


def settings(oracle: Oracle) -> tuple[tuple[str, ...], list[str]]:
    """The blueprint of a folder; its texts are ids, 1, 2 and 3 standing for CLS, SEP and MASK, 0 for padding."""
    config, layout = oracle.config, Layout.of(oracle.weights)
    if layout.task not in BLUEPRINTS:
        raise UserError("steps of text assignment are not replayed", hints=[f"classes: {', '.join(BLUEPRINTS)}"])
    sizes = {
        "params.alpha": float(oracle.inputs["alpha"]),
        "inputs.image.size": config["image"],
        "inputs.caption.max_length": config["maxpos"],
        "components.bert": f"{{use: ids, vocab_size: {config['vocab']}, begin: '1', pad: '0', mask: '3'}}",
        "components.vision.width": config["vw"],
        "components.vision.depth": layout.vision,
        "components.vision.heads": config["vh"],
        "components.vision.patch": config["patch"],
        "components.text.width": config["tw"],
        "components.text.depth": layout.text,
        "components.text.length": config["maxpos"],
        "components.fusion.depth": layout.fusion // (2 if layout.task == "nlvr" else 1),
        **{f"components.{name}.heads": config["th"] for name in ("text", "fusion")},
        **{f"components.{name}.mlp_width": config["inter"] for name in ("text", "fusion")},
        **{f"components.{name}.{noise}": 0 for name in ("text", "fusion") for noise in NOISES},
        **(_sizes[layout.task](config) if layout.task in _sizes else {}),
    }
    if layout.task in ("ve", "nlvr"):
        sizes["inputs.statement.max_length"] = config["maxpos"]
    if layout.task == "vqa":
        sizes |= answerer(config, layout.answers, config["tw"], oracle) | {"outputs.ranked.first_word": 2}
    if layout.queues:  # the other classes have 0.995 written into them
        sizes[f"stages.{STAGES.get(layout.task, 'finetune')}.batch"] = config["B"]  # which divides the queue
        sizes["teachers.momentum.decay"] = config["mom"]
    return BLUEPRINTS[layout.task], [f"{path}={value}" for path, value in sizes.items()]


def _contrastive(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "components.image_proj.out": config["embed"],
        "components.text_proj.out": config["embed"],
        "components.memory.size": config["queue"],
    }


def _retrieval_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    # The official teacher copies the fusion layers too, though its forward never calls them: asking for it copies ours.
    return {**_contrastive(config), "+outputs.taught": "momentum.fused"}


_sizes: Mapping[names.Task, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "pretrain": _contrastive,
    "retrieval": _retrieval_sizes,
    # The official code counts its pairs of twins from the seventh layer on, whatever the number of those below.
    "nlvr": lambda config: {"components.fusion.share_from": (SEVENTH - config["fl"]) // 2},
}


def replay(blueprint: CheckedBlueprint, model: Model, oracle: Oracle, without: Collection[str]) -> Outcome:
    """The step's losses, values, gradients and next state, as the folder has them."""
    layout = Layout.of(oracle.weights)
    recorded = _recorded[layout.task](blueprint, oracle, next(model.parameters()).device)
    results = _values[layout.task](blueprint, model, recorded, oracle) if layout.task in _values else {}
    losses = train_step(blueprint, model, STAGES.get(layout.task, "finetune"), recorded, without)
    results |= {official: losses[ours] for ours, official in LOSSES[layout.task].items()}
    rules = names.rules(layout)
    slopes = gradients(model, rules)
    after = state(model, rules, oracle.expected.state)
    return Outcome(results, frozenset(), norms_of(slopes), slopes, after)


LOSSES: Mapping[names.Task, Mapping[str, str]] = {
    "pretrain": {"itc": "loss_ita", "itm": "loss_itm", "mlm": "loss_mlm"},
    "retrieval": {"itc": "loss_ita", "itm": "loss_itm"},
    "ve": {"entail": "loss"},
    "vqa": {"vqa": "loss"},
    "nlvr": {"nlvr": "loss"},
}
"""Our losses, and the folders' names of them."""


# A program without the pass `prune` reads every input of the blueprint, so that a task's batch has them all.


def _pairs(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> dict[str, Any]:
    given = oracle.inputs
    frame = blueprint.inputs["caption"].max_length  # type: ignore[union-attr]
    text = text_of(given["input_ids"], given["attention_mask"], frame)
    return {"image": Image(given["image"]).to(device), "caption": text.to(device)}


def _pretrain(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    given = oracle.inputs
    batch = _pairs(blueprint, oracle, device)
    masked = text_of(given["masked_input_ids"], given["attention_mask"], batch["caption"].frame).to(device)
    choices = {
        "neg": _negatives(oracle, device),
        "masked": SimpleNamespace(text=masked, labels=Labels(given["mlm_labels"]).to(device)),
    }
    return Recorded(batch, choices)


def _negatives(oracle: Oracle, device: torch.device) -> Any:
    image, text = (Index(oracle.inputs[f"neg_{name}_index"]).to(device) for name in ("image", "text"))
    return SimpleNamespace(image=image, text=text)


def _retrieval(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    batch = {**_pairs(blueprint, oracle, device), "id": Number(oracle.inputs["idx"]).to(device)}
    return Recorded(batch, {"neg": _negatives(oracle, device)})


def _ve(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    batch = _pairs(blueprint, oracle, device)
    batch["statement"] = batch["caption"]
    batch["relation"] = Number(oracle.inputs["targets"]).to(device)
    return Recorded(batch)


def _vqa(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    batch = _pairs(blueprint, oracle, device)
    batch |= {"question": batch["caption"], **answers(oracle, "k", batch["caption"].frame, device)}
    return Recorded(batch)


def _nlvr(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    batch = _pairs(blueprint, oracle, device)
    left, right = oracle.inputs["image"].chunk(2)
    batch |= {"image": Image(left).to(device), "left": Image(left).to(device), "right": Image(right).to(device)}
    batch |= {"statement": batch["caption"], "truth": Number(oracle.inputs["targets"]).to(device)}
    return Recorded(batch)


_recorded: Mapping[names.Task, Callable[[CheckedBlueprint, Oracle, torch.device], Recorded]] = {
    "pretrain": _pretrain,
    "retrieval": _retrieval,
    "ve": _ve,
    "vqa": _vqa,
    "nlvr": _nlvr,
}


def _pretrain_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded, _: Oracle) -> dict[str, Tensor]:
    judged = ("matched", "wrong_image", "wrong_text")
    refs = {name: blueprint.values[name] for name in ("v", "t", "predicted", *judged)}
    refs |= {f"{name}.fused": next(blueprint.calls[refs[name].call].refs()) for name in judged}
    results = values(blueprint, model, refs, recorded)
    return {
        "image_embeds": results["v"].features,
        "text_embeds": results["t"].features,
        "itm_cls": torch.cat([results[f"{name}.fused"].features for name in judged]),
        "itm_logits": torch.cat([results[name].scores for name in judged]),
        "mlm_logits": results["predicted"].scores,
    }


def _ve_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded, _: Oracle) -> dict[str, Tensor]:
    results = values(blueprint, model, {"verdict": blueprint.values["verdict"]}, recorded)
    return {"logits_after_momentum": results["verdict"].scores}


def _vqa_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded, oracle: Oracle) -> dict[str, Tensor]:
    ranking = ranked(blueprint, model, recorded, oracle)
    return {"topk_ids": ranking.texts, "topk_probs": ranking.scores.softmax(1)}


_values: Mapping[names.Task, Callable[[CheckedBlueprint, Model, Recorded, Oracle], dict[str, Tensor]]] = {
    "pretrain": _pretrain_values,
    "ve": _ve_values,
    "vqa": _vqa_values,
}


FORMAT = Format(
    name="albef",
    losses=frozenset({"loss", "loss_ita", "loss_itm", "loss_mlm"}),
    settings=settings,
    import_state=by_itself(names.import_state),
    replay=replay,
)
