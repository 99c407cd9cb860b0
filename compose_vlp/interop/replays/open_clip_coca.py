"""One training step and one greedy caption of open_clip's CoCa (release 3.3), run again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.compile import compile_plan, compile_stage
from compose_vlp.compiler.incremental import compile_incremental
from compose_vlp.compiler.model import Model
from compose_vlp.components.layers.summed_loss import IGNORED
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import open_clip_coca as names
from compose_vlp.interop.comparison import Outcome, norms_of
from compose_vlp.interop.format import Format, by_itself
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.weights import gradients_of
from compose_vlp.runtime.inference.generate import generate
from compose_vlp.runtime.inference.search import Search
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Image, Text

STAGE = "pretrain"
SHORTEST = 5
"""`min_seq_len` of open_clip's `generate`: an end token is not chosen before, begin token counted."""


def settings(oracle: Oracle) -> tuple[tuple[str, ...], list[str]]:
    """The blueprint of a folder's `config.json`; its texts are ids, the last two of them begin and end."""
    config = oracle.config
    if "official" not in config:
        raise UserError("config.json has no `official`, the model's configuration as open_clip takes it")
    official = config["official"]
    words = official["text_cfg"].get("vocab_size", 49408)
    return (names.BLUEPRINT,), [
        *names.overrides(official),
        f"components.clip={{use: ids, vocab_size: {words}, begin: '{words - 2}', end: '{words - 1}'}}",
        f"losses.captioning.weight={config.get('caption_loss_weight', 2.0)}",
        f"losses.contrastive.weight={config.get('clip_loss_weight', 1.0)}",
    ]


def replay(blueprint: CheckedBlueprint, model: Model, oracle: Oracle, without: Collection[str]) -> Outcome:
    """The step's values, losses and gradients, and the greedy caption where the folder has one."""
    text = text_of(oracle.inputs["text_ids"], frame=blueprint.inputs["caption"].max_length)  # type: ignore[union-attr]
    device = next(model.parameters()).device
    batch = {"image": Image(oracle.inputs["image"]).to(device), "caption": text.to(device)}
    losses = step(blueprint, model, batch, without)
    values = {**features(blueprint, model, batch), **losses}
    if "greedy_ids" in oracle.expected.values:
        length = oracle.expected.values["greedy_ids"].shape[1]
        values["greedy_ids"] = greedy(blueprint, model, batch, length)
    gradients = names.export_state(gradients_of(model))
    return Outcome(values=values, norms=norms_of(gradients), gradients=gradients)


def text_of(ids: Tensor, frame: int, pad: int = 0) -> Text:
    """Ids [batch, length] as a text; its words end before the padding that comes last."""
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    return Text(ids, ((ids != pad) * places).amax(1), frame, pad)


def step(
    blueprint: CheckedBlueprint, model: Model, batch: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, Tensor]:
    """The weighted losses of the stage's own program, and the backward of their sum."""
    losses = model(compile_stage(blueprint, STAGE, without=without).run, batch)
    weighted = {name: losses[name].value * blueprint.losses[name].weight for name in ("contrastive", "captioning")}
    torch.stack([*weighted.values()]).sum().backward()
    return {"contrastive_loss": weighted["contrastive"], "caption_loss_weighted": weighted["captioning"]}


@torch.no_grad()
def features(blueprint: CheckedBlueprint, model: Model, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Embeddings, logits and labels as open_clip's forward gives them: the last word is read by nothing."""
    refs = {name: blueprint.values[name] for name in ("image_embedding", "text_embedding", "logits")}
    results = model(compile_plan(blueprint, "features", refs, trainable=lambda _: False).run, batch)
    text = batch["caption"]
    labels = model.losses_by_name.captioning.labels(text)[:, :-1]
    return {
        "image_features": results["image_embedding"].features,
        "text_features": results["text_embedding"].features,
        "logits": results["logits"].scores[:, :-1],
        "labels": labels.masked_fill(labels == IGNORED, text.pad),
        "logit_scale": model.student.similarity.log_scale.exp().reshape(()),
    }


def greedy(blueprint: CheckedBlueprint, model: Model, batch: Mapping[str, Any], length: int) -> Tensor:
    """Captions [batch, length] that begin as the batch's texts do, ended as open_clip's loop ends them."""
    text = batch["caption"]
    end = blueprint.components["clip"].kind.implementation(blueprint.components["clip"].config).end_id
    how = Search(end=end, pad=text.pad, max_length=length, min_length=SHORTEST)
    programs = compile_incremental(blueprint, "caption")
    with evaluating(model):
        ids = generate(model, programs, {"image": batch["image"]}, text.ids[:, :1], how, frame=text.frame)
    return ended(ids, length, end, text.pad)


def ended(ids: Tensor, length: int, end: int, pad: int) -> Tensor:
    """open_clip's end of a text: the padding's id ends it too, and whatever reaches the last place ends there."""
    full = torch.nn.functional.pad(ids, (0, length - ids.shape[1]), value=pad)
    stops = (full == end) | (full == pad)
    before = stops[:, :-1].cumsum(1) > 0  # has the text ended at this place?
    closing = torch.where(before[:, -1], pad, end)
    words = full[:, 1:-1].masked_fill(before[:, :-1], pad)
    return torch.cat((full[:, :1], words, closing[:, None]), 1)


FORMAT = Format(
    name="open_clip_coca",
    losses=frozenset({"contrastive_loss", "caption_loss_weighted"}),
    settings=settings,
    import_state=by_itself(names.import_state),
    replay=replay,
)
