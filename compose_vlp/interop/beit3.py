"""BEiT-3's checkpoints (microsoft/unilm, beit3 at 768a3c8, over torchscale): pretraining and downstream classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.format import Filled, Imported
from compose_vlp.interop.rules import Rule, named, same, to_ours, to_theirs

Task = Literal["pretrain", "retrieval", "vqa", "nlvr2", "classification"]
EXPERTS = {"vision": "A", "language": "B"}
"""Our names of the modalities, and torchscale's."""
MARKS: Mapping[str, Task] = {
    "language_head.weight": "retrieval",
    "pooler.dense.weight": "vqa",
    "head.dense1.weight": "nlvr2",
    "fc_norm.weight": "classification",
}
"""A tensor that each downstream class alone has. Captioning has what pretraining has: a head for words."""
JUDGES: Mapping[Task, tuple[tuple[str, str], ...]] = {
    "vqa": (("head.0", "first"), ("head.1", "norm"), ("head.3", "last")),
    "nlvr2": (
        ("head.norm1", "input_norm"),
        ("head.dense1", "first"),
        ("head.norm2", "norm"),
        ("head.dense2", "last"),
    ),
    "classification": (("fc_norm", "input_norm"), ("head", "last")),
}
"""Their names of the last layers, and ours below `judge`."""

OUR_MARKS: tuple[tuple[Task, str], ...] = (
    ("retrieval", "image_proj.map.weight"),
    ("vqa", "pooler.map.weight"),
    ("nlvr2", "judge.first.weight"),
    ("classification", "judge.last.weight"),
)
"""A weight of ours that tells the downstream class; the first that is there."""
_LAYER = "backbone.layers.0"


@dataclass(frozen=True)
class Layout:
    """The facts behind the names: the model class, the number of layers, and whether there is a last norm (files of VQA
    and ImageNet have none), a head for words (`mlm_head`) and one for image codes (`mim_head`)."""

    task: Task
    depth: int
    final_norm: bool
    words: bool
    codes: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off the names of a state dict.

        Raises:
            UserError: it is not one of BEiT-3's.
        """
        if "beit3.vision_embed.cls_token" not in state or "beit3.text_embed.weight" not in state:
            raise UserError("no state dict of BEiT-3: it has no `beit3.vision_embed` and `beit3.text_embed`")
        return cls(
            next((task for mark, task in MARKS.items() if mark in state), "pretrain"),
            bert.depth(state, "beit3.encoder.layers"),
            "beit3.encoder.layer_norm.A.weight" in state,
            "mlm_head.weight" in state,
            "mim_head.weight" in state,
        )

    @classmethod
    def of_ours(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off the names of our weights; those that no class of BEiT-3 has are none of it.

        Raises:
            UserError: they are not those of a model as it was released.
        """
        if f"{_LAYER}.self_attention.branch.maps.vision.qkv.weight" not in state:
            raise UserError(
                "no weights of BEiT-3 as it was released: `backbone` has no attention of each modality's own",
                hints=["beit3_base, beit3_large, and tasks/beit3/* over them"],
            )
        task: Task = next((task for task, mark in OUR_MARKS if mark in state), "pretrain")
        heads = task == "pretrain"
        return cls(
            task,
            bert.depth(state, "backbone.layers"),
            "backbone.norm.vision.weight" in state,
            heads and "word_head.weight" in state,
            heads and "code_head.map.weight" in state,
        )


def export_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under BEiT-3's names, for `load_state_dict(strict=True)` of its model classes.

    `state` may hold components that the class has not (the tokenizer of pictures, a task's unread heads). Of both
    tables of positions the first two rows, which no position uses, are 0.

    Raises:
        UserError: a weight is missing, a component has one that the class has not (a stem of several convolutions), or
            the model is not that of a released class.
    """
    every = rules(Layout.of_ours(state))
    mine = {name.partition(".")[0] for rule in every for name in rule.ours}
    return to_theirs(every, {name: tensor for name, tensor in state.items() if name.partition(".")[0] in mine})


def import_state(state: Mapping[str, Tensor], filled: Filled | None = None) -> Imported:  # noqa: ARG001
    """A state dict of BEiT-3 under our names, every tensor of it used; what no class of BEiT-3 has is left over.

    Of both tables of positions the first two rows, which no position uses, are left out.

    Raises:
        UserError: a tensor is missing.
    """
    every = rules(Layout.of(state))
    known = {name for rule in every for name in rule.theirs}
    tensors = to_ours(every, {name: tensor for name, tensor in state.items() if name in known})
    return Imported(tensors, tuple(name for name in state if name not in known))


def rules(layout: Layout) -> list[Rule]:
    """All tensors of the model."""
    return list(_all(layout))


def _all(layout: Layout) -> Iterator[Rule]:
    yield same("beit3.text_embed.weight", "words_of.embedding.weight")
    for official, ours in (("cls_token", "cls"), ("mask_token", "mask_token")):
        yield same(f"beit3.vision_embed.{official}", f"patches_of.{ours}", "token")
    yield from named("beit3.vision_embed.proj", "patches_of.stem.projection")
    for ours, official in (("patches_of", "A"), ("words_of", "B")):
        yield same(f"beit3.encoder.embed_positions.{official}.weight", f"{ours}.positions", "padded")
    for expert, letter in EXPERTS.items():
        for number in range(layout.depth):
            yield from _layer(f"beit3.encoder.layers.{number}", f"backbone.layers.{number}", expert, letter)
        if layout.final_norm:
            yield from named(f"beit3.encoder.layer_norm.{letter}", f"backbone.norm.{expert}")
    yield from _heads(layout)


def _layer(official: str, ours: str, expert: str, letter: str) -> Iterator[Rule]:
    yield from named(f"{official}.self_attn_layer_norm.{letter}", f"{ours}.self_attention.branch.norms.{expert}")
    maps = f"{ours}.self_attention.branch.maps.{expert}"
    for suffix in ("weight", "bias"):
        three = tuple(f"{official}.self_attn.{name}_proj.{letter}.{suffix}" for name in "qkv")
        yield Rule(three, (f"{maps}.qkv.{suffix}",))
    yield from named(f"{official}.self_attn.inner_attn_ln.{letter}", f"{maps}.sub_norm")
    yield from named(f"{official}.self_attn.out_proj.{letter}", f"{maps}.out")
    yield from named(f"{official}.final_layer_norm.{letter}", f"{ours}.experts.{expert}.norm")
    for name, layer in (("fc1", "fc1"), ("ffn_layernorm", "sub_norm"), ("fc2", "fc2")):
        yield from named(f"{official}.ffn.{letter}.{name}", f"{ours}.experts.{expert}.ffn.{layer}")


def _heads(layout: Layout) -> Iterator[Rule]:
    if layout.words:
        yield from named("mlm_head", "word_head")
    if layout.codes:
        yield from named("mim_head", "code_head.map")
    if layout.task == "retrieval":
        for official, ours in (("vision", "image_proj"), ("language", "text_proj")):
            yield same(f"{official}_head.weight", f"{ours}.map.weight")
        yield same("logit_scale", "similarity.log_scale", "scalar")
    if layout.task == "vqa":
        for official, ours in (("norm", "norm"), ("dense", "map")):
            yield from named(f"pooler.{official}", f"pooler.{ours}")
    for official, ours in JUDGES.get(layout.task, ()):
        yield from named(official, f"judge.{ours}")
