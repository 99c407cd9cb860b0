"""Recorded questions with several answers each, and answers ranked among candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.compiler.model import Model
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.replays.steps import Recorded, text_of, values
from compose_vlp.values import Index, Number, Text


def answerer(config: Mapping[str, Any], depth: int, width: int, oracle: Oracle) -> dict[str, Any]:
    """Overrides for the sizes of the decoder of answers."""
    positions = len(oracle.weights["text_decoder.bert.embeddings.position_embeddings.weight"])
    sizes = {"depth": depth, "heads": config["th"], "mlp_width": config["inter"], "width": width}
    return {
        **{f"components.answerer.{name}": value for name, value in sizes.items()},
        **{f"components.answerer.{noise}": 0 for noise in ("dropout", "attention_dropout")},
        "inputs.question.max_length": config["maxpos"],
        "inputs.answers.max_length": positions,
        "components.answerer.length": positions,
    }


def answers(oracle: Oracle, counts: str, frame: int, device: torch.device) -> dict[str, Any]:
    """The answers of a batch, the question that each belongs to, and its weight; `counts` names how many each has."""
    given = oracle.inputs
    owner = torch.arange(len(given[counts])).repeat_interleave(given[counts])
    return {
        "answers": text_of(given["answer_ids"], given["answer_mask"], frame).to(device),
        "answers.owner": Index(owner).to(device),
        "answers.weight": Number(given["weights"]).to(device),
    }


@dataclass(frozen=True)
class Ranked:
    """Candidates by question, best first: their numbers `ids` [questions, kept], and the softmax of their scores.

    `best` [questions] is the number of the best.
    """

    ids: Tensor
    shares: Tensor

    @property
    def best(self) -> Tensor:
        return self.ids[:, 0]


def ranked(
    blueprint: CheckedBlueprint, model: Model, recorded: Recorded, oracle: Oracle, kept: int, *, twice: bool = False
) -> Ranked:
    """The candidates whose first word is likeliest, by the likelihood of all their words.

    `twice` adds the first word's once more, as ALBEF's code does.
    """
    device = next(model.parameters()).device
    given = oracle.inputs
    frame = recorded.batch["answers"].frame
    candidates = text_of(given["candidate_ids"], given["candidate_mask"], frame).to(device)
    questions = len(given["input_ids"])
    begun = Text(candidates.ids[:1, :1].expand(questions, 1), torch.ones(questions, dtype=torch.long), frame)
    first = _scores(blueprint, model, recorded, begun.to(device), torch.arange(questions))[:, 0].softmax(-1)
    likeliest = first[:, candidates.ids[:, 1]].topk(kept, dim=1)
    chosen = likeliest.indices.flatten()
    texts = Text(candidates.ids[chosen], candidates.lengths[chosen], frame)
    owner = torch.arange(questions).repeat_interleave(kept)
    scores = _scores(blueprint, model, recorded, texts, owner)
    labels = model.losses_by_name.vqa.labels(texts)
    smoothing = blueprint.losses["vqa"].config.label_smoothing
    lost = F.cross_entropy(scores.transpose(1, 2), labels, reduction="none", label_smoothing=smoothing).sum(1)
    total = -lost.view(questions, kept) + (likeliest.values.log() if twice else 0)
    order = total.softmax(1).topk(kept, dim=1)
    return Ranked(likeliest.indices.gather(1, order.indices), order.values)


def _scores(blueprint: CheckedBlueprint, model: Model, recorded: Recorded, texts: Text, owner: Tensor) -> Tensor:
    device = texts.ids.device
    batch = {**recorded.batch, "answers": texts, "answers.owner": Index(owner.to(device))}
    wanted = {"answer_logits": blueprint.values["answer_logits"]}
    scores: Tensor = values(blueprint, model, wanted, Recorded(batch))["answer_logits"].scores
    return scores
