"""salesforce/BLIP's checkpoints (commit 056a169): pretraining, and every downstream class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.rules import Rule, named, same, to_ours

Task = Literal["pretrain", "retrieval", "captioning", "vqa", "nlvr", "itm"]


@dataclass(frozen=True)
class Layout:
    """The facts behind the names: the model class, its depths, and whether momentum copies and queues are there.

    `text` are the encoder's layers, `words` the decoder's; `merged` the first layer with a map that merges two images.
    """

    task: Task
    vision: int
    text: int
    words: int
    merged: int
    momentum: bool
    queues: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off the names of a state dict.

        Raises:
            UserError: it is not one of BLIP's.
        """
        if "visual_encoder.cls_token" not in state:
            raise UserError("no state dict of BLIP: it has no `visual_encoder`")
        if any("token_type_embeddings" in name for name in state):
            raise UserError(
                "no state dict of BLIP: it has embeddings of token types",
                hints=["a text tower with token types is ALBEF's: format `albef`"],
            )
        text = bert.depth(state, "text_encoder.encoder.layer")
        merges = (f"text_encoder.encoder.layer.{i}.crossattention.output.merge_layer.weight" for i in range(text))
        return cls(
            _task(state),
            bert.depth(state, "visual_encoder.blocks"),
            text,
            bert.depth(state, "text_decoder.bert.encoder.layer"),
            next((i for i, name in enumerate(merges) if name in state), text),
            "visual_encoder_m.cls_token" in state,
            "image_queue" in state,
        )


def _task(state: Mapping[str, Tensor]) -> Task:
    encodes = "text_encoder.embeddings.word_embeddings.weight" in state
    if "text_decoder.cls.predictions.bias" in state:
        return "pretrain" if "itm_head.weight" in state else "vqa" if encodes else "captioning"
    if "cls_head.2.weight" in state:
        return "nlvr"
    return "retrieval" if "temp" in state else "itm"


COPIED: Mapping[Task, tuple[str, ...]] = {
    "pretrain": ("vision", "text", "image_proj", "text_proj"),
    "retrieval": ("vision", "text", "image_proj", "text_proj"),
}
"""Our names of what each class has a momentum copy of."""


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of BLIP under our names, every tensor of it used; a teacher's stand below `momentum.`.

    Raises:
        UserError: a tensor is missing, or one is there that no class of BLIP has.
    """
    return bert.with_ids(to_ours(rules(Layout.of(state)), bert.without_derived(state)))


def rules(layout: Layout) -> list[Rule]:
    """All tensors of the model but those that follow from others."""
    own = list(_own(layout))
    copies = bert.of_teacher(own, COPIED[layout.task]) if layout.momentum else ()
    return [*own, *copies, *(_queues(layout) if layout.queues else ())]


def _own(layout: Layout) -> Iterator[Rule]:
    yield from bert.vit("visual_encoder", "vision", layout.vision)
    if layout.text:
        yield from bert.embeddings("text_encoder.embeddings", "text", token_types=False)
    for i in range(layout.text):
        official, ours = f"text_encoder.encoder.layer.{i}", f"text.layers.{i}"
        yield from bert.layer(official, ours, cross=layout.task != "nlvr")
        if layout.task == "nlvr":
            yield from _two_images(official, ours, mapped=i >= layout.merged)
    if layout.words:
        decoder, head = ("answerer", "answer_head") if layout.task == "vqa" else ("decoder", "lm_head")
        yield from bert.embeddings("text_decoder.bert.embeddings", decoder, token_types=False)
        for i in range(layout.words):
            yield from bert.layer(f"text_decoder.bert.encoder.layer.{i}", f"{decoder}.layers.{i}", cross=True)
        yield from bert.word_head("text_decoder.cls.predictions", head)
    yield from _heads(layout)


def _two_images(official: str, ours: str, *, mapped: bool) -> Iterator[Rule]:
    """NLVR2's cross-attention: one for each image, merged by a map or averaged."""
    cross, branch = f"{official}.crossattention", f"{ours}.cross_attention.branch"
    for i in (0, 1):
        yield from bert.looking(f"{cross}.self{i}", f"{branch}.attentions.{i}")
        yield from named(f"{cross}.output.dense{i}", f"{branch}.attentions.{i}.out")
    if mapped:
        yield from named(f"{cross}.output.merge_layer", f"{branch}.merge")
    yield from named(f"{cross}.output.LayerNorm", f"{ours}.cross_attention.norm")


def _heads(layout: Layout) -> Iterator[Rule]:
    if layout.task in ("pretrain", "retrieval", "itm"):
        yield from named("vision_proj", "image_proj.map")
        yield from named("text_proj", "text_proj.map")
        yield from named("itm_head", "itm_head.map")
    if layout.task in ("pretrain", "retrieval"):
        yield same("temp", "similarity.temperature", "scalar")
    if layout.task == "nlvr":
        yield from named("cls_head.0", "judge.hidden")
        yield from named("cls_head.2", "judge.map")


def _queues(layout: Layout) -> Iterator[Rule]:
    yield same("image_queue", "memory.image", "transposed")
    yield same("text_queue", "memory.text", "transposed")
    if layout.task == "retrieval":
        yield same("idx_queue", "memory.id", "batched")
        yield same("ptr_queue", "memory.pointer")
    else:
        yield same("queue_ptr", "memory.pointer")
