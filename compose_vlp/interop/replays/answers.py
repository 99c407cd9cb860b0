"""Recorded questions with several answers each, and answers ranked among candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from compose_vlp.compiler.model import Model
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.oracle import Oracle
from compose_vlp.interop.replays.steps import Recorded, text_of
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.rank import Ranked, Ranker
from compose_vlp.values import Index, Number

KEPT = 4
"""Candidates that are left after the first word, in both folders with ranked answers."""


def answerer(config: Mapping[str, Any], depth: int, width: int, oracle: Oracle) -> dict[str, Any]:
    """Overrides for the sizes of the decoder of answers, and for the table that is ranked."""
    positions = len(oracle.weights["text_decoder.bert.embeddings.position_embeddings.weight"])
    sizes = {"depth": depth, "heads": config["th"], "mlp_width": config["inter"], "width": width}
    return {
        **{f"components.answerer.{name}": value for name, value in sizes.items()},
        **{f"components.answerer.{noise}": 0 for noise in ("dropout", "attention_dropout")},
        "inputs.question.max_length": config["maxpos"],
        "inputs.answers.max_length": positions,
        "components.answerer.length": positions,
        "outputs.ranked.top": KEPT,
    }


def answers(oracle: Oracle, counts: str, frame: int, device: torch.device) -> dict[str, Any]:
    """The answers of a batch, the question that each belongs to, and its weight; `counts` names how many each has."""
    given = oracle.inputs
    owner = torch.arange(len(given[counts])).repeat_interleave(given[counts])
    return {
        "answers": text_of(given["answer_ids"], given["answer_mask"], frame).to(device),
        "answers.owner": Index(owner).to(device),
        "answers.weight": Number(given["weights"]).to(device),
        "closed": text_of(given["candidate_ids"], given["candidate_mask"], frame).to(device),
    }


def ranked(blueprint: CheckedBlueprint, model: Model, recorded: Recorded, oracle: Oracle) -> Ranked:
    """The folder's candidates for each of its questions, by the output `ranked`, of whose table they are the lines."""
    tokenizer = model.tokenizers[blueprint.inputs["closed"].tokenizer]  # type: ignore[union-attr]
    lengths = oracle.inputs["candidate_mask"].sum(1).tolist()
    # what the tokenizer puts around a text is no part of its line
    last = 0 if tokenizer.end_id is None else 1
    rows = zip(oracle.inputs["candidate_ids"].tolist(), lengths, strict=True)
    lines = [" ".join(map(str, ids[1 : length - last])) for ids, length in rows]
    asker = Asker(blueprint, model, model.tokenizers, next(model.parameters()).device)
    ranker = Ranker(asker, "ranked", {"closed": lines})
    return ranker.rank({name: recorded.batch[name] for name in asker.inputs_read("ranked")})
