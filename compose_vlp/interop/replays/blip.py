"""One recorded step of each of BLIP's model classes, run again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.model import Model
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import blip as names
from compose_vlp.interop.blip import Layout
from compose_vlp.interop.comparison import Outcome, norms_of
from compose_vlp.interop.format import Format, by_itself
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.replays.answers import answerer, answers, ranked
from compose_vlp.interop.replays.steps import Recorded, gradients, state, text_of, train_step, values
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.values import Image, Index, Number

BLUEPRINTS: Mapping[names.Task, tuple[str, ...]] = {
    "pretrain": ("blip",),
    "retrieval": ("blip", "tasks/blip/retrieval"),
    "captioning": ("blip", "tasks/blip/captioning"),
    "vqa": ("blip", "tasks/blip/vqa", "tasks/ranked_vqa"),
    "nlvr": ("blip", "tasks/blip/nlvr2"),
    "itm": ("blip", "tasks/matching"),
}
STAGES: Mapping[names.Task, str] = {"pretrain": "pretrain"}
"""Where not named: `finetune`."""

TOWERS: Mapping[names.Task, tuple[str, ...]] = {
    "pretrain": ("text", "decoder"),
    "captioning": ("text", "decoder"),
    "vqa": ("text", "answerer"),
}
"""Components whose sizes are those of the text tower; where not named: `text`."""

NOISES = ("dropout", "attention_dropout")
"""Settings of BERT's towers that are 0 in a recorded step."""


def settings(oracle: Oracle) -> tuple[tuple[str, ...], list[str]]:
    """The blueprint of a folder; its texts are ids, 1 and 2 standing for CLS and SEP, 0 for padding, the last two for
    `[DEC]` and `[ENC]`."""
    config, layout = oracle.config, Layout.of(oracle.weights)
    words = config["bos_token_id"]
    sizes: dict[str, Any] = {
        "inputs.image.size": config["image"],
        "inputs.caption.max_length": config["maxpos"],
        "components.bert": f"{{use: ids, vocab_size: {words}, begin: '1', end: '2', pad: '0', "
        "tokens: ['[DEC]', '[ENC]']}",
        "components.vision.width": config["vw"],
        "components.vision.depth": layout.vision,
        "components.vision.heads": config["vh"],
        "components.vision.patch": config["patch"],
        "components.text.width": config["tw"],
        "components.text.depth": layout.text or layout.words,
        "components.text.heads": config["th"],
        "components.text.mlp_width": config["inter"],
        "components.text.length": config["maxpos"],
    }
    for tower in TOWERS.get(layout.task, ("text",)):
        sizes |= {f"components.{tower}.{noise}": 0 for noise in NOISES}
    if layout.task in ("pretrain", "retrieval", "itm"):
        sizes |= {f"components.{name}_proj.out": config["embed"] for name in ("image", "text")}
    if layout.queues:
        sizes["params.alpha"] = float(oracle.inputs["alpha"])
        sizes[f"stages.{STAGES.get(layout.task, 'finetune')}.batch"] = config["B"]  # which divides the queue
        sizes |= {"components.memory.size": config["queue"], "teachers.momentum.decay": config["mom"]}
    if layout.task == "itm":  # the official class begins its texts with [CLS], where training had [ENC]
        sizes |= {"+graph.judged": "itm_head(text(caption, context=v).cls)", "+outputs.judged": "judged"}
    if layout.task == "captioning":
        sizes |= {"components.decoder.share": "{}", **_decoder(config, layout)}
        # the step's texts hold the prompt already; those that are written come after it
        prompt = " ".join(map(str, _prompt(config)))
        sizes |= {"prompted": "logits", "+graph.begun": f"logits(caption=prompt('{prompt}', caption))"}
        sizes["outputs.caption.generate"] = "begun"
    if layout.task == "vqa":
        sizes |= answerer(config, layout.words, config["tw"], oracle) | {"outputs.ranked.label_smoothing": 0.1}
    if layout.task in ("vqa", "nlvr"):
        sizes["components.vision.drop_path"] = 0
    if layout.task == "nlvr":
        sizes["inputs.statement.max_length"] = config["maxpos"]
        sizes["components.text.merge_from"] = layout.merged
    return BLUEPRINTS[layout.task], [f"{path}={value}" for path, value in sizes.items()]


def _prompt(config: Mapping[str, Any]) -> list[int]:
    """The ids of the prompt's words."""
    ids: list[int] = config["prompt_ids"][1 : config["prompt_length"]]
    return ids


def _decoder(config: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """A decoder with weights of its own, as the fine-tuned classes have it."""
    sizes = {"width": config["tw"], "depth": layout.words, "heads": config["th"], "mlp_width": config["inter"]}
    return {f"components.decoder.{name}": value for name, value in (sizes | {"token_types": "false"}).items()}


def replay(blueprint: CheckedBlueprint, model: Model, oracle: Oracle, without: Collection[str]) -> Outcome:
    """The step's losses, values, gradients and next state, as the folder has them."""
    layout = Layout.of(oracle.weights)
    recorded = _recorded(blueprint, oracle, next(model.parameters()).device)
    results = _values[layout.task](blueprint, model, recorded) if layout.task in _values else {}
    if "best_ids" in oracle.expected.values:
        results["best_ids"] = ranked(blueprint, model, recorded, oracle).texts[:, 0]
    if "greedy_ids" in oracle.expected.values:
        results = {
            f"{how}_ids": generated(blueprint, model, oracle, beams) for how, beams in (("greedy", 1), ("beam3", 3))
        }
    if layout.task not in LOSSES:
        return Outcome(results)
    losses = train_step(blueprint, model, STAGES.get(layout.task, "finetune"), recorded, without)
    results |= {official: losses[ours] for ours, official in LOSSES[layout.task].items()}
    rules = names.rules(layout)
    slopes = gradients(model, rules)
    after = state(model, rules, oracle.expected.state)
    return Outcome(results, frozenset(), norms_of(slopes), slopes, after)


LOSSES: Mapping[names.Task, Mapping[str, str]] = {
    "pretrain": {"itc": "loss_ita", "itm": "loss_itm", "lm": "loss_lm"},
    "retrieval": {"itc": "loss_ita", "itm": "loss_itm"},
    "captioning": {"lm": "loss"},
    "vqa": {"vqa": "loss"},
    "nlvr": {"nlvr": "loss"},
}
"""Our losses, and the folders' names of them."""


def _recorded(blueprint: CheckedBlueprint, oracle: Oracle, device: torch.device) -> Recorded:
    """Give the inputs and choices of the folder, under the names that blueprints and tasks use."""
    given = oracle.inputs
    frame = blueprint.inputs["caption"].max_length  # type: ignore[union-attr]
    caption = text_of(given["input_ids"], given["attention_mask"], frame).to(device)
    batch: dict[str, Any] = {"image": Image(given["image"]).to(device), "caption": caption}
    if "left" in blueprint.inputs:
        left, right = (Image(half).to(device) for half in given["image"].chunk(2))
        truth = Number(given["targets"]).to(device)
        batch |= {"image": left, "left": left, "right": right, "statement": caption, "truth": truth}
    if "answers" in blueprint.inputs:
        batch |= {"question": caption, **answers(oracle, "n", frame, device)}
    if "id" in blueprint.inputs:
        batch["id"] = Number(given["idx"]).to(device)
    choices = {}
    if "neg_image_index" in given:
        image, text = (Index(given[f"neg_{name}_index"]).to(device) for name in ("image", "text"))
        choices["neg"] = SimpleNamespace(image=image, text=text)
    if "prompt_length" in oracle.config:
        given_words = torch.full_like(caption.lengths, oracle.config["prompt_length"])
        batch["caption"] = dataclasses.replace(caption, given=given_words)
    return Recorded(batch, choices)


def generated(blueprint: CheckedBlueprint, model: Model, oracle: Oracle, beams: int) -> Tensor:
    """Captions [batch, length] of the folder's images after its prompt, as long as the folder's."""
    device = next(model.parameters()).device
    asker = Asker(blueprint, model, model.tokenizers, device)
    batch = {"image": Image(oracle.inputs["image"]).to(device)}
    length = oracle.expected.values["greedy_ids"].shape[1]
    ids = asker.ids_of_batch("caption", batch, beams=beams, max_length=length, min_length=0)
    begun = torch.tensor([oracle.config["bos_token_id"], *_prompt(oracle.config)], device=device)
    return torch.cat((begun.expand(len(ids), -1), ids[:, 1:]), 1)


def _pretrain_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    judged = ("matched", "wrong_image", "wrong_text")
    refs = {name: blueprint.values[name] for name in ("v", "logits", *judged)}
    results = values(blueprint, model, refs, recorded)
    return {
        "image_embeds": results["v"].features,
        "itm_logits": torch.cat([results[name].scores for name in judged]),
        "lm_logits": results["logits"].scores,
    }


def _nlvr_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    results = values(blueprint, model, {"verdict": blueprint.values["verdict"]}, recorded)
    return {"logits": results["verdict"].scores}


def _itm_values(blueprint: CheckedBlueprint, model: Model, recorded: Recorded) -> dict[str, Tensor]:
    refs = {name: blueprint.values[name] for name in ("judged", "image_embedding", "text_embedding")}
    results = values(blueprint, model, refs, recorded)
    alike = results["image_embedding"].features @ results["text_embedding"].features.T
    return {"itm_logits": results["judged"].scores, "itc_similarity": alike}


_values: Mapping[names.Task, Callable[[CheckedBlueprint, Model, Recorded], dict[str, Tensor]]] = {
    "pretrain": _pretrain_values,
    "nlvr": _nlvr_values,
    "itm": _itm_values,
}


FORMAT = Format(
    name="blip",
    losses=frozenset({"loss", "loss_ita", "loss_itm", "loss_lm"}),
    settings=settings,
    import_state=by_itself(names.import_state),
    replay=replay,
)
