"""salesforce/ALBEF's checkpoints (commit b9727e4): pretraining, and every downstream class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.rules import Rule, named, rows_of, same, to_ours

Task = Literal["pretrain", "retrieval", "ve", "vqa", "nlvr", "assignment"]


@dataclass(frozen=True)
class Layout:
    """The facts behind the names: the model class, its depths, and whether momentum copies and queues are there.

    `text` are the layers before the first cross-attention, `fusion` those from it on, `answers` those of VQA's decoder.
    """

    task: Task
    vision: int
    text: int
    fusion: int
    answers: int
    momentum: bool
    queues: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off the names and shapes of a state dict.

        Raises:
            UserError: it is not one of ALBEF's.
        """
        if "visual_encoder.cls_token" not in state or not any(n.startswith("text_encoder.") for n in state):
            raise UserError("no state dict of ALBEF: it has no `visual_encoder` and `text_encoder`")
        task = _task(state)
        layers = f"{_text(task)}.encoder.layer"
        pattern = re.compile(re.escape(layers) + r"\.(\d+)\.crossattention\.")
        first = min((int(match[1]) for name in state if (match := pattern.match(name))), default=0)
        if first == 0:
            raise UserError(
                "no state dict of ALBEF: its first text layers have no cross-attention",
                hints=["a text tower that looks at the image in every layer is BLIP's: format `blip`"],
            )
        return cls(
            task,
            bert.depth(state, "visual_encoder.blocks"),
            first,
            bert.depth(state, layers) - first,
            bert.depth(state, "text_decoder.bert.encoder.layer"),
            "visual_encoder_m.cls_token" in state,
            "image_queue" in state,
        )


def _task(state: Mapping[str, Tensor]) -> Task:
    if "text_decoder.bert.embeddings.word_embeddings.weight" in state:
        return "vqa"
    if "ta_head.weight" in state:
        return "assignment"
    if "cls_head.2.weight" in state:
        return "ve" if rows_of(state, "cls_head.2.weight") == 3 else "nlvr"
    return "pretrain" if "text_encoder.cls.predictions.bias" in state else "retrieval"


def _text(task: Task) -> str:
    return "text_encoder.bert" if task == "pretrain" else "text_encoder"


COPIED: Mapping[Task, tuple[str, ...]] = {
    "pretrain": ("vision", "text", "fusion", "image_proj", "text_proj", "mlm_head"),
    "retrieval": ("vision", "text", "fusion", "image_proj", "text_proj"),
    "ve": ("vision", "text", "fusion", "judge"),
    "vqa": ("vision", "text", "fusion", "answerer", "answer_head"),
    "nlvr": ("vision", "text", "fusion", "judge"),
    "assignment": (),
}
"""Our names of what each class has a momentum copy of."""


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ALBEF under our names, every tensor of it used; a teacher's stand below `momentum.`.

    Raises:
        UserError: a tensor is missing, or one is there that no class of ALBEF has.
    """
    return bert.with_ids(to_ours(rules(Layout.of(state)), bert.without_derived(state)))


def rules(layout: Layout) -> list[Rule]:
    """All tensors of the model but those that follow from others."""
    own = list(_own(layout))
    copies = bert.of_teacher(own, COPIED[layout.task]) if layout.momentum else ()
    return [*own, *copies, *(_queues(layout) if layout.queues else ())]


def _own(layout: Layout) -> Iterator[Rule]:
    text = _text(layout.task)
    yield from bert.vit("visual_encoder", "vision", layout.vision)
    yield from bert.embeddings(f"{text}.embeddings", "text", token_types=True)
    for i in range(layout.text):
        yield from bert.layer(f"{text}.encoder.layer.{i}", f"text.layers.{i}", cross=False)
    for i in range(layout.fusion):
        yield from bert.layer(f"{text}.encoder.layer.{layout.text + i}", f"fusion.layers.{i}", cross=True)
    yield from _heads(layout)


def _heads(layout: Layout) -> Iterator[Rule]:
    if layout.task in ("pretrain", "retrieval", "assignment"):
        yield from named("vision_proj", "image_proj.map")
        yield from named("text_proj", "text_proj.map")
        yield same("temp", "similarity.temperature", "scalar")
    if layout.task in ("pretrain", "retrieval"):
        yield from named("itm_head", "itm_head.map")
    if layout.task == "assignment":
        yield from named("ta_head", "assigner.map")
    if layout.task == "pretrain":
        yield from bert.word_head("text_encoder.cls.predictions", "mlm_head")
    if layout.task in ("ve", "nlvr"):
        yield from named("cls_head.0", "judge.hidden")
        yield from named("cls_head.2", "judge.map")
    if layout.task == "vqa":
        yield from bert.embeddings("text_decoder.bert.embeddings", "answerer", token_types=True)
        for i in range(layout.answers):
            yield from bert.layer(f"text_decoder.bert.encoder.layer.{i}", f"answerer.layers.{i}", cross=True)
        yield from bert.word_head("text_decoder.cls.predictions", "answer_head")


def _queues(layout: Layout) -> Iterator[Rule]:
    yield same("image_queue", "memory.image", "transposed")
    yield same("text_queue", "memory.text", "transposed")
    yield same("queue_ptr", "memory.pointer")
    if layout.task == "retrieval":
        yield same("idx_queue", "memory.id", "batched")
