"""VLMo's checkpoints (microsoft/unilm, commit 768a3c8): pretraining, the language stage, and every downstream class."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.format import Filled, Imported
from compose_vlp.interop.rules import Rule, named, rows_of, same, to_ours, to_theirs

Task = Literal["pretrain", "textmlm", "retrieval", "vqa", "nlvr2"]
EXPERTS = {"vision": "imag", "language": "text", "vision_language": "vl"}
"""Our names of the experts, and theirs."""
TABLE = "relative_position_bias_table"
HEADS = {
    "pooler": ("pooler.dense.weight", "pooler.map.weight"),
    "mlm_score": ("mlm_score.bias", "mlm_head.bias"),
    "itm_score": ("itm_score.fc.weight", "itm_head.map.weight"),
    "itc": ("itc_text_proj.fc.weight", "text_proj.map.weight"),
    "itc_vl": ("itc_vl_text_proj.fc.weight", "text_vl.map.weight"),
    "logit_scale": ("logit_scale", "similarity.log_scale"),
    "logit_vl_scale": ("logit_vl_scale", "similarity_vl.log_scale"),
    "vqa_classifier": ("vqa_classifier.0.weight", "judge.first.weight"),
    "nlvr2_classifier": ("nlvr2_classifier.0.weight", "judge.first.weight"),
}
"""By their names, a tensor that each has in their files and in ours."""


@dataclass(frozen=True)
class Layout:
    """The facts behind the names: the model class, layers below and above the first vision-language expert, and what a
    model of this size has: a bias table and scales, or absolute positions.

    `upper` counts the layers that have a vision-language expert, or would have one where the file has none; `heads` are
    the heads that there are (see `HEADS`), by their own names.
    """

    task: Task
    heads: frozenset[str]
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
        if not depth or "token_type_embeddings.weight" not in state:
            raise UserError("a state dict of VLMo with parts missing: `transformer.blocks` or `token_type_embeddings`")
        joint = [int(m[1]) for n in state if (m := re.match(r"transformer\.blocks\.(\d+)\.mlp_vl\.fc1\.weight", n))]
        if not joint and upper is None:
            raise UserError(
                "the file has no vision-language expert, so it does not tell where the upper layers begin",
                hints=["files of the language stage fill a model that has been built"],
            )
        lower = min(joint) if joint else depth - (upper or 0)
        return cls(
            _task(state),
            frozenset(head for head, (mark, _) in HEADS.items() if mark in state),
            lower,
            depth - lower,
            bool(joint),
            TABLE in state,
            "transformer.pos_embed" in state,
            "transformer.blocks.0.gamma_1" in state,
            _types_of(state),
        )

    @classmethod
    def of_ours(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off our names.

        Raises:
            UserError: they are not VLMo's.
        """
        if "words_of.embedding.weight" not in state or "upper.layers.0.experts.vision.norm.weight" not in state:
            raise UserError("no weights of VLMo: it has `words_of`, and layers of experts in `upper`")
        judge = "nlvr2_classifier" if len(state.get("judge.last.bias", ())) == len(("no", "yes")) else "vqa_classifier"
        heads = {head for head, (_, mark) in HEADS.items() if mark in state and not head.endswith("classifier")}
        heads |= {judge} if HEADS[judge][1] in state else set()
        return cls(
            _task({HEADS[head][0]: state["patches_of.cls"] for head in heads}),
            frozenset(heads),
            bert.depth(state, "lower.layers"),
            bert.depth(state, "upper.layers"),
            "upper.layers.0.experts.vision_language.norm.weight" in state,
            "upper.relative_bias.table" in state,
            "patches_of.positions" in state,
            "upper.layers.0.ffn_scale" in state,
            1 + len(state["patches_of.types"]),
        )


def _types_of(state: Mapping[str, Tensor]) -> int:
    """Count the types of tokens: the text's and the picture's, and maybe a second picture's."""
    name = "token_type_embeddings.weight"
    types = rows_of(state, name)
    if types < 2 or state[name].ndim != 2:
        raise UserError(f"`{name}` is {list(state[name].shape)} in the file, where VLMo has a row a type, two at least")
    return types


def _task(state: Mapping[str, Tensor]) -> Task:
    if "vqa_classifier.0.weight" in state:
        return "vqa"
    if "nlvr2_classifier.0.weight" in state:
        return "nlvr2"
    if "itm_score.fc.weight" in state:
        return "pretrain"
    return "retrieval" if "itc_text_proj.fc.weight" in state else "textmlm"


def import_state(state: Mapping[str, Tensor], filled: Filled) -> Imported:
    """A state dict of VLMo under our names: every tensor of it is used, but tables that its code never reads; what no
    class of VLMo has is left over.

    Where it has no vision-language expert, the model that is filled tells how many layers are upper ones.

    Raises:
        UserError: a tensor is missing, or the file's vision-language expert begins at another layer than the model's.
    """
    upper = bert.depth(filled.tensors, "upper.layers") or None
    layout = Layout.of(state, upper)
    if upper is not None and layout.upper != upper:
        lower = layout.lower + layout.upper - upper
        raise UserError(
            f"the file's vision-language expert begins at layer {layout.lower}, and `upper` of this model at {lower}",
            hints=[f"components.lower.depth={layout.lower} components.upper.depth={layout.upper}"],
        )
    read = without_derived(state)
    known = {name for rule in rules(layout) for name in rule.theirs}
    tensors = to_ours(rules(layout), {name: tensor for name, tensor in read.items() if name in known})
    tensors["patches_of.types"] = _with_types(tensors["patches_of.types"], filled.tensors.get("patches_of.types"))
    return Imported(tensors, tuple(name for name in read if name not in known))


def _with_types(types: Tensor, ours: Tensor | None) -> Tensor:
    """A type for every one that the model has: those beyond the file's begin as its last (NLVR2's second picture)."""
    more = 0 if ours is None or types.ndim != ours.ndim else len(ours) - len(types)
    return types if more <= 0 else torch.cat((types, types[-1:].expand(more, -1)))


def export_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under VLMo's names, as its own code saves them but for BERT's unused table of positions.

    Raises:
        UserError: they are not those of VLMo's blueprint or one of its tasks.
    """
    return to_theirs(rules(Layout.of_ours(state)), state)


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


def _layer(official: str, ours: str, experts: Iterable[str], layout: Layout) -> Iterator[Rule]:
    yield from named(f"{official}.norm1", f"{ours}.self_attention.norm")
    attention = f"{ours}.self_attention.branch"
    yield same(f"{official}.attn.qkv.weight", f"{attention}.qkv.weight")
    for name in ("q_bias", "v_bias"):
        yield same(f"{official}.attn.{name}", f"{attention}.{name}")
    yield from named(f"{official}.attn.proj", f"{attention}.out")
    if layout.scaled:
        yield same(f"{official}.gamma_1", f"{ours}.self_attention.scale")
        yield same(f"{official}.gamma_2", f"{ours}.ffn_scale")
    for expert in experts:
        yield from named(f"{official}.norm2_{EXPERTS[expert]}", f"{ours}.experts.{expert}.norm")
        for layer in ("fc1", "fc2"):
            yield from named(f"{official}.mlp_{EXPERTS[expert]}.{layer}", f"{ours}.experts.{expert}.ffn.{layer}")


def _heads(layout: Layout) -> Iterator[Rule]:
    if "pooler" in layout.heads:
        yield from named("pooler.dense", "pooler.map")
    if "mlm_score" in layout.heads:
        yield from bert.word_head("mlm_score", "mlm_head")
    if "itm_score" in layout.heads:
        yield from named("itm_score.fc", "itm_head.map")
    for kind, ours in (("itc", "proj"), ("itc_vl", "vl")):
        if kind in layout.heads:
            for name in ("text", "image"):
                yield same(f"{kind}_{name}_proj.fc.weight", f"{name}_{ours}.map.weight")
    for scale in ("logit_scale", "logit_vl_scale"):
        if scale in layout.heads:
            yield same(scale, HEADS[scale][1], "scalar")
    # a file of both classes, whose last one it was is not known, gives none of them to the one `judge`
    judges = [head for head in ("vqa_classifier", "nlvr2_classifier") if head in layout.heads]
    if len(judges) == 1:
        for number, ours in (("0", "first"), ("1", "norm"), ("3", "last")):
            yield from named(f"{judges[0]}.{number}", f"judge.{ours}")
