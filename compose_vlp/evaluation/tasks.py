"""Retrieval and captioning of a trained model on any source, from its outputs alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from compose_vlp.data.source import Source
from compose_vlp.evaluation.batches import batches, need, texts_of
from compose_vlp.evaluation.captioning import CaptionScores, caption_scores
from compose_vlp.evaluation.retrieval import Recall, recall
from compose_vlp.runtime.outputs import Asker

Tick = Callable[[int], None]
"""Told how many records are done."""


@dataclass(frozen=True)
class Captions:
    """What a model said of pictures: record numbers, captions, references and their scores."""

    rows: tuple[int, ...]
    captions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    scores: CaptionScores


def _silent(_: int) -> None: ...


def evaluate_retrieval(asker: Asker, source: Source, count: int = 1000, *, tick: Tick = _silent) -> Recall:
    """Recall of the first `count` records from `image_embedding` and `text_embedding`.

    A text is right for a picture where both come from one record, or where another record has the very same text.

    Raises:
        UserError: the blueprint lacks one of the outputs.
    """
    need(asker, "retrieval", "image_embedding", "text_embedding")
    (image_input,) = asker.inputs_read("image_embedding")
    (text_input,) = asker.inputs_read("text_embedding")
    pictures, texts, keys, done = [], [], [], 0
    field = asker.blueprint.inputs[text_input].field or text_input
    for rows, values in batches(asker, source, (image_input, text_input), count):
        pictures.append(asker.value_of_batch("image_embedding", values))
        texts.append(asker.value_of_batch("text_embedding", values))
        keys += [said[0] if said else row for row, said in zip(rows, texts_of(source, rows, field), strict=True)]
        done += len(rows)
        tick(done)
    return recall(torch.cat(pictures) @ torch.cat(texts).T, keys, keys)


def evaluate_captioning(
    asker: Asker, source: Source, count: int = 1000, *, output: str = "caption", tick: Tick = _silent, **settings: Any
) -> Captions:
    """Captions of the first `count` records and their scores against the records' own.

    Raises:
        UserError: the blueprint has no such output, or a search setting is unknown.
    """
    need(asker, "captioning", output)
    over = str(asker.blueprint.outputs[output].over)
    field = asker.blueprint.inputs[over].field or over
    numbers: list[int] = []
    captions: list[str] = []
    references: list[tuple[str, ...]] = []
    for rows, values in batches(asker, source, asker.inputs_read(output), count):
        numbers += rows
        captions += asker.texts_of_batch(output, values, **settings)
        references += texts_of(source, rows, field)
        tick(len(numbers))
    scores = caption_scores(captions, references)
    return Captions(tuple(numbers), tuple(captions), tuple(references), scores)
