"""One step of BEiT-3's retrieval beside torchscale's BEiT-3, from which the authors' model is made.

Same weights, pictures and captions, no drop-path; the official class around torchscale (two maps, a temperature,
contrast over the batch) is written here as in `unilm/beit3/modeling_finetuning.py`, with captions in a frame of 64.

    ours         the compiled blueprint, texts trimmed to the longest, fused AdamW
    torchscale   its model, torch's default AdamW, texts in the full frame
    torchscale+  the same with fused AdamW, and with texts trimmed
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.racing import ADAMW, Raced, add_arguments, race
from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.interop import beit3
from compose_vlp.interop.weights import load_weights
from compose_vlp.values import Image, Text

SIZES = {  # width, heads, layers, inner width, picture, words
    "base": (768, 12, 12, 3072, 224, 64010),
    "tiny": (48, 2, 2, 96, 64, 500),
}
FRAME, PAD, BATCHES = 64, 1, 3


class TorchscaleRetrieval(nn.Module):
    """`BEiT3ForRetrieval` of the authors, without their distributed gathering."""

    def __init__(self, width: int, heads: int, depth: int, inner: int, side: int, words: int) -> None:
        super().__init__()
        from torchscale.architecture.config import EncoderConfig
        from torchscale.model.BEiT3 import BEiT3

        config = EncoderConfig(
            img_size=side, patch_size=16, vocab_size=words, multiway=True, encoder_layers=depth, subln=True,
            encoder_embed_dim=width, encoder_ffn_embed_dim=inner, encoder_attention_heads=heads, no_output_layer=True,
            normalize_output=True, max_source_positions=1024, layernorm_eps=1e-5, dropout=0.0, attention_dropout=0.0,
            activation_dropout=0.0, drop_path_rate=0.0, checkpoint_activations=False,
        )  # fmt: skip
        self.beit3 = BEiT3(config)
        self.vision_head = nn.Linear(width, width, bias=False)
        self.language_head = nn.Linear(width, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, pixels: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
        """The loss of the batch."""
        seen = self.beit3(textual_tokens=None, visual_tokens=pixels, text_padding_position=None)["encoder_out"]
        read = self.beit3(textual_tokens=ids, visual_tokens=None, text_padding_position=padding)["encoder_out"]
        image = F.normalize(self.vision_head(seen[:, 0]), dim=-1)
        text = F.normalize(self.language_head(read[:, 0]), dim=-1)
        scores = self.logit_scale.exp() * image @ text.t()
        labels = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.t(), labels)) / 2


def with_sdpa(model: TorchscaleRetrieval) -> TorchscaleRetrieval:
    """Give torchscale's attention, which is written out, torch's fused one; the same numbers."""
    from torchscale.component.multihead_attention import MultiheadAttention

    def forward(self: Any, query: Tensor, key: Tensor, value: Tensor, **rest: Any) -> tuple[Tensor, None]:
        maps = ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        q, k, v = (linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for linear, x in maps)
        hidden = rest.get("key_padding_mask")
        seen = None if hidden is None else ~hidden.bool()[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        return self.out_proj(out if self.inner_attn_ln is None else self.inner_attn_ln(out)), None

    for module in model.modules():
        if isinstance(module, MultiheadAttention):
            module.forward = MethodType(forward, module)
    return model


class Ours(Raced):
    """The blueprint, with torchscale's weights."""

    def __init__(self, reference: TorchscaleRetrieval, sizes: tuple[int, ...]) -> None:
        width, heads, depth, inner, side, words = sizes
        overrides = [
            f"inputs.image={{type: image, size: {side}}}", f"inputs.caption.max_length={FRAME}",
            f"components.spm={{use: ids, vocab_size: {words}, begin: '0', pad: '{PAD}', end: '2', mask: '3'}}",
            f"components.patches_of.width={width}", f"components.words_of.width={width}",
            *(f"components.{name}.out={width}" for name in ("image_proj", "text_proj")),
            f"components.backbone={{depth: {depth}, heads: {heads}, mlp_width: {inner}, drop_path: 0}}",
        ]  # fmt: skip
        loaded = Blueprint.load("beit3_base", "tasks/beit3/retrieval", overrides=overrides)
        self.program = loaded.compile("finetune")["finetune"].run
        self.model = build(loaded.check()).train()
        state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
        load_weights(self.model, beit3.import_state(state).tensors)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **ADAMW, fused=True)

    def losses(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        longest = int(data["lengths"].max())
        text = Text(data["ids"][:, :longest], data["lengths"], FRAME, PAD)
        results = self.model(self.program, {"image": Image(data["pixels"]), "caption": text})
        return {"contrast": results["contrast"].value}

    def named(self, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        return {name.removeprefix("components."): tensor for name, tensor in super().named(read).items()}


class Theirs(Raced):
    """torchscale's model under the authors' loss."""

    def __init__(self, model: TorchscaleRetrieval, *, fused: bool, trimmed: bool) -> None:
        self.model, self.trimmed = model, trimmed
        parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(parameters, **ADAMW, **({"fused": True} if fused else {}))

    def losses(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        longest = int(data["lengths"].max()) if self.trimmed else FRAME
        padding = torch.arange(longest, device=data["ids"].device) >= data["lengths"][:, None]
        return {"contrast": self.model(data["pixels"], data["ids"][:, :longest], padding)}

    def named(self, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        """Under our names; what there is none of counts as 0."""
        named = self.model.named_parameters()
        tensors = {n: torch.zeros_like(p) if (t := read(p)) is None else t.clone() for n, p in named}
        return beit3.import_state(tensors).tensors


def main() -> int:
    """Compare, time, print."""
    arguments = add_arguments(argparse.ArgumentParser(), (8, 24)).parse_args()
    sizes = SIZES[arguments.size]
    torch.manual_seed(0)
    weights = TorchscaleRetrieval(*sizes).state_dict()

    def model() -> TorchscaleRetrieval:
        made = TorchscaleRetrieval(*sizes).train()
        made.load_state_dict(weights)
        return made

    makers = {
        "ours": lambda: Ours(model(), sizes),
        "torchscale": lambda: Theirs(model(), fused=False, trimmed=False),
        "torchscale+": lambda: Theirs(model(), fused=True, trimmed=True),
    }
    data = [data_of(arguments.batch, sizes, arguments.words) for _ in range(BATCHES)]
    return race("beit3", makers, data, arguments)


def data_of(batch: int, sizes: tuple[int, ...], words: tuple[int, int]) -> dict[str, Tensor]:
    """Random pictures and captions in their frame."""
    lengths = torch.randint(words[0], words[1] + 1, (batch,))
    inside = torch.arange(FRAME) < lengths[:, None]
    ids = torch.where(inside, torch.randint(4, sizes[-1], (batch, FRAME)), PAD)
    return {"pixels": torch.randn(batch, 3, sizes[-2], sizes[-2]), "ids": ids, "lengths": lengths}


if __name__ == "__main__":
    sys.exit(main())
