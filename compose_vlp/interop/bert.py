"""What ALBEF's and BLIP's state dicts have in common: timm's ViT beside BERT, copies in momentum, queues."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from compose_vlp.components.queues.feature_queue import NOBODY
from compose_vlp.interop.rules import Rule, named, same

POSITION_IDS = "embeddings.position_ids"
TEACHER = "momentum"
"""The teacher's name in our blueprints; theirs are the same names with `_m` behind the first part."""


def depth(names: Iterable[str], stem: str) -> int:
    """Layers below a name: `visual_encoder.blocks` has those up to the largest number that follows."""
    pattern = re.compile(re.escape(stem) + r"\.(\d+)\.")
    return 1 + max((int(match[1]) for name in names if (match := pattern.match(name))), default=-1)


def vit(official: str, ours: str, layers: int) -> Iterator[Rule]:
    """The VisionTransformer of timm, as ALBEF and BLIP have it."""
    yield same(f"{official}.cls_token", f"{ours}.cls", "token")
    yield same(f"{official}.pos_embed", f"{ours}.positions", "batched")
    yield from named(f"{official}.patch_embed.proj", f"{ours}.stem.projection")
    yield from named(f"{official}.norm", f"{ours}.norm")
    for i in range(layers):
        block, layer = f"{official}.blocks.{i}", f"{ours}.layers.{i}"
        yield from named(f"{block}.norm1", f"{layer}.self_attention.norm")
        yield from named(f"{block}.attn.qkv", f"{layer}.self_attention.branch.qkv")
        yield from named(f"{block}.attn.proj", f"{layer}.self_attention.branch.out")
        yield from named(f"{block}.norm2", f"{layer}.ffn.norm")
        yield from named(f"{block}.mlp.fc1", f"{layer}.ffn.branch.fc1")
        yield from named(f"{block}.mlp.fc2", f"{layer}.ffn.branch.fc2")


def embeddings(official: str, ours: str, *, token_types: bool) -> Iterator[Rule]:
    """BERT's embeddings; BLIP has no token types."""
    yield same(f"{official}.word_embeddings.weight", f"{ours}.embedding.weight")
    yield same(f"{official}.position_embeddings.weight", f"{ours}.positions")
    if token_types:
        yield same(f"{official}.token_type_embeddings.weight", f"{ours}.token_types")
    yield from named(f"{official}.LayerNorm", f"{ours}.embedding_norm")


def layer(official: str, ours: str, *, cross: bool) -> Iterator[Rule]:
    """A BERT layer, with cross-attention or without."""
    for suffix in ("weight", "bias"):
        queries, keys, values = (f"{official}.attention.self.{n}.{suffix}" for n in ("query", "key", "value"))
        yield Rule((queries, keys, values), (f"{ours}.self_attention.branch.qkv.{suffix}",))
    yield from _output(f"{official}.attention.output", f"{ours}.self_attention")
    if cross:
        yield from looking(f"{official}.crossattention.self", f"{ours}.cross_attention.branch")
        yield from _output(f"{official}.crossattention.output", f"{ours}.cross_attention")
    yield from named(f"{official}.intermediate.dense", f"{ours}.ffn.branch.fc1")
    yield from named(f"{official}.output.dense", f"{ours}.ffn.branch.fc2")
    yield from named(f"{official}.output.LayerNorm", f"{ours}.ffn.norm")


def looking(official: str, ours: str) -> Iterator[Rule]:
    """The maps of a cross-attention: queries from the words, keys over values from what is looked at."""
    yield from named(f"{official}.query", f"{ours}.q")
    for suffix in ("weight", "bias"):
        yield Rule((f"{official}.key.{suffix}", f"{official}.value.{suffix}"), (f"{ours}.kv.{suffix}",))


def _output(official: str, ours: str) -> Iterator[Rule]:
    yield from named(f"{official}.dense", f"{ours}.branch.out")
    yield from named(f"{official}.LayerNorm", f"{ours}.norm")


def word_head(official: str, ours: str) -> Iterator[Rule]:
    """BERT's `cls.predictions`: a transform, a table of words that is the embedding's, a bias a word."""
    yield from named(f"{official}.transform.dense", f"{ours}.transform.0")
    yield from named(f"{official}.transform.LayerNorm", f"{ours}.transform.2")
    yield same(f"{official}.decoder.weight", f"{ours}.weight")
    yield same(f"{official}.bias", f"{ours}.bias")


def of_teacher(rules: Iterable[Rule], components: Collection[str]) -> Iterator[Rule]:
    """The same for a momentum copy of these of our components."""
    for rule in rules:
        if rule.ours[0].split(".")[0] in components:
            official = tuple(momentum_name(name) for name in rule.theirs)
            yield Rule(official, tuple(f"{TEACHER}.{name}" for name in rule.ours), rule.form, rule.shares)


def momentum_name(name: str) -> str:
    """`text_encoder_m.encoder...` for `text_encoder.encoder...`."""
    first, _, rest = name.partition(".")
    return f"{first}_m.{rest}"


def without_derived(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without what follows from the rest: positions' numbers, a head's bias a second time."""
    return {name: tensor for name, tensor in state.items() if not _is_derived(name)}


def with_ids(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights, with a queue's ids where theirs has none (pretraining): nobody's."""
    if "memory.image" not in ours or "memory.id" in ours:
        return ours
    return {**ours, "memory.id": torch.full((len(ours["memory.image"]),), NOBODY)}


def with_derived(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Put back what `without_derived` left out of a state dict of these names."""
    completed = dict(state)
    for name in names:
        if name.endswith(POSITION_IDS):
            table = state[name.replace("position_ids", "position_embeddings.weight")]
            completed[name] = torch.arange(len(table))[None]
        elif name.endswith("predictions.decoder.bias"):
            completed[name] = state[name.replace("decoder.bias", "bias")]
    return completed


def _is_derived(name: str) -> bool:
    return name.endswith((POSITION_IDS, "predictions.decoder.bias"))
