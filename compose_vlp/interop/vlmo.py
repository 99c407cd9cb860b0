"""VLMo's checkpoints (microsoft/unilm, commit 768a3c8): pretraining, the language stage, and every downstream class."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.rules import Rule, named, same, to_ours

Task = Literal["pretrain", "textmlm", "retrieval", "vqa", "nlvr2"]
EXPERTS = {"vision": "imag", "language": "text", "vision_language": "vl"}
"""Our names of the experts, and theirs."""
TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class Layout:
    """What the names depend on: the model class, layers below and above the first vision-language expert, and what a
    model of this size has: a bias table and scales, or absolute positions.

    `upper` counts the layers that have a vision-language expert, or would have one where the file has none.
    """

    task: Task
    lower: int
    upper: int
    joint_expert: bool
    relative: bool
    absolute: bool
    scaled: bool
    types: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor], upper: int | None = None) -> Layout:
        """Read off the names and shapes of a state dict; `upper` where a file of the language stage does not tell it.

        Raises:
            UserError: it is not one of VLMo's, or does not tell where its upper layers begin.
        """
        if "transformer.cls_token" not in state or "text_embeddings.word_embeddings.weight" not in state:
            raise UserError("no state dict of VLMo: it has no `transformer` and `text_embeddings`")
        depth = bert.depth(state, "transformer.blocks")
        joint = [int(m[1]) for n in state if (m := re.match(r"transformer\.blocks\.(\d+)\.mlp_vl\.fc1\.weight", n))]
        if not joint and upper is None:
            raise UserError(
                "the file has no vision-language expert, so it does not tell where the upper layers begin",
                hints=["files of the language stage fill a model that has been built"],
            )
        lower = min(joint) if joint else depth - (upper or 0)
        return cls(
            _task(state),
            lower,
            depth - lower,
            bool(joint),
            TABLE in state,
            "transformer.pos_embed" in state,
            "transformer.blocks.0.gamma_1" in state,
            len(state["token_type_embeddings.weight"]),
        )


def _task(state: Mapping[str, Tensor]) -> Task:
    if "vqa_classifier.0.weight" in state:
        return "vqa"
    if "nlvr2_classifier.0.weight" in state:
        return "nlvr2"
    if "itm_score.fc.weight" in state:
        return "pretrain"
    return "retrieval" if "itc_text_proj.fc.weight" in state else "textmlm"


def import_state(state: Mapping[str, Tensor], filled: Collection[str] = ()) -> dict[str, Tensor]:
    """A state dict of VLMo under our names, every tensor of it used but tables that its code never reads.

    Where it has no vision-language expert, the model that is `filled` tells how many layers are upper ones.

    Raises:
        UserError: a tensor is missing, or one is there that no class of VLMo has.
    """
    upper = bert.depth(filled, "upper.layers") or None
    return to_ours(rules(Layout.of(state, upper)), without_derived(state))


def without_derived(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without numbers of positions, and without BERT's table of them where biases are in its place."""
    return {name: tensor for name, tensor in state.items() if not is_derived(name, state)}


def is_derived(name: str, names: Collection[str]) -> bool:
    """Is this a tensor that follows from the rest, or that the official code never reads?"""
    if name.endswith(("relative_position_index", "text_embeddings.position_ids")):
        return True
    return name == "text_embeddings.position_embeddings.weight" and TABLE in names


def rules(layout: Layout) -> list[Rule]:
    """All tensors of the model but those that the code never reads."""
    return list(_all(layout))


def _all(layout: Layout) -> Iterator[Rule]:
    yield from _embeddings(layout)
    for i in range(layout.lower + layout.upper):
        stack, number = ("lower", i) if i < layout.lower else ("upper", i - layout.lower)
        experts = ["vision", "language", *(["vision_language"] if layout.joint_expert and stack == "upper" else [])]
        yield from _layer(f"transformer.blocks.{i}", f"{stack}.layers.{number}", experts, layout)
    yield from named("transformer.norm", "upper.norm")
    if layout.relative:
        stacks = [(name, n) for name, n in (("lower", layout.lower), ("upper", layout.upper)) if n]
        ours = tuple(f"{name}.relative_bias.table" for name, _ in stacks)
        yield Rule((TABLE,), ours, "columns", shares=tuple(n for _, n in stacks))
    yield from _heads(layout)


def _embeddings(layout: Layout) -> Iterator[Rule]:
    words = "text_embeddings"
    yield same(f"{words}.word_embeddings.weight", "words_of.embedding.weight")
    if not layout.relative:
        yield same(f"{words}.position_embeddings.weight", "words_of.positions")
    yield same(f"{words}.token_type_embeddings.weight", "words_of.token_types")
    yield from named(f"{words}.LayerNorm", "words_of.norm")
    types = ("words_of.modality", "patches_of.types")
    yield Rule(("token_type_embeddings.weight",), types, shares=(1, layout.types - 1))
    yield same("transformer.cls_token", "patches_of.cls", "token")
    if layout.absolute:
        yield same("transformer.pos_embed", "patches_of.positions", "batched")
    yield from named("transformer.patch_embed.proj", "patches_of.stem.projection")


def _layer(theirs: str, ours: str, experts: Iterable[str], layout: Layout) -> Iterator[Rule]:
    yield from named(f"{theirs}.norm1", f"{ours}.self_attention.norm")
    attention = f"{ours}.self_attention.branch"
    yield same(f"{theirs}.attn.qkv.weight", f"{attention}.qkv.weight")
    for name in ("q_bias", "v_bias"):
        yield same(f"{theirs}.attn.{name}", f"{attention}.{name}")
    yield from named(f"{theirs}.attn.proj", f"{attention}.out")
    if layout.scaled:
        yield same(f"{theirs}.gamma_1", f"{ours}.self_attention.scale")
        yield same(f"{theirs}.gamma_2", f"{ours}.ffn_scale")
    for expert in experts:
        yield from named(f"{theirs}.norm2_{EXPERTS[expert]}", f"{ours}.experts.{expert}.norm")
        for layer in ("fc1", "fc2"):
            yield from named(f"{theirs}.mlp_{EXPERTS[expert]}.{layer}", f"{ours}.experts.{expert}.ffn.{layer}")


def _heads(layout: Layout) -> Iterator[Rule]:
    yield from named("pooler.dense", "pooler.map")
    if layout.task in ("pretrain", "textmlm"):
        yield from bert.word_head("mlm_score", "mlm_head")
    if layout.task in ("pretrain", "retrieval"):
        for name in ("text", "image"):
            yield same(f"itc_{name}_proj.fc.weight", f"{name}_proj.map.weight")
        yield same("logit_scale", "similarity.log_scale", "scalar")
    if layout.task == "pretrain":
        for name in ("text", "image"):
            yield same(f"itc_vl_{name}_proj.fc.weight", f"{name}_vl.map.weight")
        yield same("logit_vl_scale", "similarity_vl.log_scale", "scalar")
        yield from named("itm_score.fc", "itm_head.map")
    if layout.task in ("vqa", "nlvr2"):
        for number, ours in (("0", "first"), ("1", "norm"), ("3", "last")):
            yield from named(f"{layout.task}_classifier.{number}", f"judge.{ours}")
