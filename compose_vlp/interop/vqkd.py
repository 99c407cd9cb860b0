"""VQ-KD's checkpoints: BEiT v2's tokenizers of pictures (microsoft/unilm, beit2 at 80d673a)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.rules import Rule, named, same, to_ours

STARTED = "quantize.embedding.initted"
STATISTICS = ("quantize.cluster_size", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg")
"""What counts how often codes were chosen, and a second copy of them that nothing reads."""
TRAINING = ("loss", "teacher", "scaling")
"""How names begin that the official code takes out when it loads a tokenizer."""


@dataclass(frozen=True)
class Layout:
    """The facts behind the names: layers of encoder and decoder, and whether the file says that codes have begun."""

    encoder: int
    decoder: int
    started: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Layout:
        """Read off the names of a state dict.

        Raises:
            UserError: it is not one of VQ-KD's.
        """
        if "quantize.embedding.weight" not in state or "encode_task_layer.0.weight" not in state:
            raise UserError("no state dict of VQ-KD: it has no `quantize.embedding` and `encode_task_layer`")
        return cls(bert.depth(state, "encoder.blocks"), bert.depth(state, "decoder.blocks"), STARTED in state)


def import_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of VQ-KD under our names, every tensor of it used but statistics of codes and what trained it.

    Raises:
        UserError: a tensor is missing, or one is there that a tokenizer has not.
    """
    ours = to_ours(rules(Layout.of(state)), without_derived(state))
    return {"codebook.started": torch.ones(1), **ours}


def without_derived(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without statistics, and without the teacher."""
    return {n: tensor for n, tensor in state.items() if n not in STATISTICS and not n.startswith(TRAINING)}


def rules(layout: Layout) -> list[Rule]:
    """All tensors of the tokenizer but statistics."""
    return list(_all(layout))


def _all(layout: Layout) -> Iterator[Rule]:
    yield from _tower("encoder", "code_patches", "code_tower", layout.encoder)
    yield from named("encoder.patch_embed.proj", "code_patches.stem.projection")
    for number in "02":
        yield from named(f"encode_task_layer.{number}", f"codebook.projection.{number}")
    yield same("quantize.embedding.weight", "codebook.codes")
    if layout.started:
        yield same(STARTED, "codebook.started")
    yield from _tower("decoder", "decoder_patches", "decoder", layout.decoder)
    yield same("decoder.patch_embed.proj.weight", "decoder_patches.stem.weight", "pixel")
    yield same("decoder.patch_embed.proj.bias", "decoder_patches.stem.bias")
    for number, ours in (("0", "hidden"), ("2", "map")):
        yield from named(f"decode_task_layer.{number}", f"decoder_map.{ours}")


def _tower(official: str, patches: str, tower: str, depth: int) -> Iterator[Rule]:
    yield same(f"{official}.cls_token", f"{patches}.cls", "token")
    yield same(f"{official}.pos_embed", f"{patches}.positions", "batched")
    yield from named(f"{official}.fc_norm", f"{tower}.norm")
    for i in range(depth):
        block, layer = f"{official}.blocks.{i}", f"{tower}.layers.{i}"
        attention, expert = f"{layer}.self_attention.branch", f"{layer}.experts.vision"
        yield from named(f"{block}.norm1", f"{layer}.self_attention.norm")
        for name in ("qkv.weight", "q_bias", "v_bias"):
            yield same(f"{block}.attn.{name}", f"{attention}.{name}")
        yield from named(f"{block}.attn.proj", f"{attention}.out")
        yield from named(f"{block}.norm2", f"{expert}.norm")
        for name in ("fc1", "fc2"):
            yield from named(f"{block}.mlp.{name}", f"{expert}.ffn.{name}")
