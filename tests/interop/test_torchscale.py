"""BEiT-3 against torchscale, from whose layers the official model is made: every pass, gradient and decoded word.

Weights are fresh and of several sizes, in float64 but for what torchscale computes in float32 (softmax and GELU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compose_vlp.api import Blueprint
from compose_vlp.compiler.incremental import compile_incremental
from compose_vlp.compiler.model import Model, build
from compose_vlp.components.functions.join import join
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import beit3 as names
from compose_vlp.interop.rules import to_ours, to_theirs
from compose_vlp.interop.weights import gradients_of, load_weights
from compose_vlp.runtime.inference.generate import Cached, Recomputed
from compose_vlp.runtime.inference.search import Search
from compose_vlp.values import Image, Mask, Sequence, Text
from tests.support import assert_near

pytest.importorskip("fairscale", reason="torchscale imports fairscale")
torchscale = pytest.importorskip("torchscale.model.BEiT3", reason="torchscale is not installed")

SIZES = [  # width, heads, layers, inner width, picture, patch, text, norms within branches, a last norm
    (24, 2, 3, 40, 24, 8, 7, True, True),
    (40, 5, 1, 160, 32, 16, 11, True, True),
    (32, 4, 5, 64, 28, 14, 5, True, False),
    (16, 2, 2, 24, 16, 8, 6, False, True),
]
ROWS, WORDS = 3, 50
BEGIN, PAD, END, MASK = 0, 1, 2, 3


class Both:
    """Their model and ours, of equal weights, with a batch for both."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        from torchscale.architecture.config import EncoderConfig

        torch.manual_seed(sum(sizes))
        width, heads, depth, inner, side, patch, self.length, sub_norm, last_norm = sizes
        config = EncoderConfig(
            img_size=side, patch_size=patch, vocab_size=WORDS, multiway=True, encoder_layers=depth, subln=sub_norm,
            encoder_embed_dim=width, encoder_ffn_embed_dim=inner, encoder_attention_heads=heads, no_output_layer=True,
            normalize_output=last_norm, max_source_positions=self.length + 2, layernorm_eps=1e-5, dropout=0.0,
            attention_dropout=0.0, activation_dropout=0.0, drop_path_rate=0.0, checkpoint_activations=False,
        )  # fmt: skip
        self.library = nn.ModuleDict({"beit3": torchscale.BEiT3(config), "mlm_head": nn.Linear(width, WORDS)}).double()
        with torch.no_grad():
            for parameter in self.library.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        self.state = {name: tensor.clone() for name, tensor in self.library.state_dict().items()}
        norms = f"sub_norm: {str(sub_norm).lower()}, final_norm: {str(last_norm).lower()}"
        self.blueprint: CheckedBlueprint = Blueprint.load(
            "beit3_base",
            "tasks/masked_captioning",
            overrides=[
                f"inputs.image={{type: image, size: {side}}}",
                f"inputs.caption.max_length={self.length}",
                f"components.spm={{use: ids, vocab_size: {WORDS}, begin: '0', pad: '1', end: '2', mask: '3'}}",
                f"components.patches_of={{width: {width}, patch: {patch}}}",
                f"components.words_of={{width: {width}, length: {self.length}}}",
                f"components.backbone={{depth: {depth}, heads: {heads}, mlp_width: {inner}, drop_path: 0, {norms}}}",
                f"outputs.caption.max_length={self.length}",
            ],
        ).check()
        self.ours: Model = build(self.blueprint).double().eval()
        every = names.rules(names.Layout.of(self.state))
        self.rules = [
            rule for rule in every if sub_norm or ("_ln" not in rule.theirs[0] and "ffn_layer" not in rule.theirs[0])
        ]
        load_weights(self.ours, to_ours(self.rules, self.state))
        self.parts: dict[str, Any] = dict(self.ours.components.named_children())
        self.pixels = torch.randn(ROWS, 3, side, side, dtype=torch.float64)
        self.hidden = torch.rand(ROWS, (side // patch) ** 2) < 0.4
        lengths = torch.tensor([self.length, 2, 4])
        ids = torch.randint(4, WORDS, (ROWS, self.length))
        self.padding = torch.arange(self.length) >= lengths[:, None]
        self.text = Text(ids.masked_fill(self.padding, PAD), lengths, self.length, PAD)
        self.patches = self.hidden.shape[1] + 1

    def gradients(self) -> dict[str, Tensor]:
        """Of the official parameters: zeros where none arrived."""
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.library.named_parameters()}

    def seen_before(self) -> Tensor:
        """What must not be attended to, as the official captioner has it: 1, and 0 elsewhere."""
        total = self.patches + self.length
        seen = torch.zeros(total, total)
        seen[:, : self.patches] = 1
        seen[self.patches :, self.patches :] = torch.ones(self.length, self.length).tril()
        return (1 - seen) * -1e8

    def run_theirs(self, what: str) -> Tensor:
        image = None if what == "text" else self.pixels
        text = None if what in ("image", "hidden") else self.text.ids
        actual: Tensor = self.library.beit3(  # type: ignore[operator]
            textual_tokens=text,
            visual_tokens=image,
            text_padding_position=None if text is None else self.padding,
            vision_masked_position=self.hidden if "hidden" in what else None,
            attn_mask=self.seen_before() if what == "prefix" else None,
        )["encoder_out"]
        return actual

    def run_ours(self, what: str) -> Sequence:
        patches = self.parts["patches_of"](Image(self.pixels), Mask(self.hidden) if "hidden" in what else None)
        words = self.parts["words_of"](self.text)
        alone = {"image": patches, "hidden": patches, "text": words}
        x = alone.get(what) or join(vision=patches, language=words)
        actual: Sequence = self.parts["backbone"](x, attention="prefix" if what == "prefix" else "all")
        return actual


@pytest.fixture(scope="module", params=SIZES, ids=lambda sizes: "x".join(map(str, sizes)))
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def near(actual: Tensor, expected: Tensor) -> None:
    assert_near(actual, expected, 1e-5)


@pytest.mark.parametrize("what", ["image", "hidden", "text", "pair", "hidden pair", "prefix"])
def test_each_pass_and_all_its_gradients_are_torchscales(both: Both, what: str) -> None:
    reference, ours = both.run_theirs(what), both.run_ours(what)
    valid = torch.ones(reference.shape[:2], dtype=torch.bool) if ours.valid is None else ours.valid
    near(ours.features[valid], reference.detach()[valid])
    along = torch.randn(int(valid.sum()), reference.shape[-1], dtype=torch.float64)
    both.library.zero_grad()
    both.ours.zero_grad()
    (reference[valid] * along).sum().backward()
    (ours.features[valid] * along).sum().backward()
    expected = both.gradients()
    actual = to_theirs(
        both.rules, {name: g for name, g in gradients_of(both.ours).items() if not name.startswith("losses")}
    )
    assert actual.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    reached = {name for name, gradient in expected.items() if float(gradient.norm()) > 1e-6 * largest}
    assert len(reached) > 10
    for name, gradient in expected.items():
        assert torch.dist(actual[name], gradient) <= 1e-5 * float(gradient.norm()) + 1e-6 * largest, name


class Decoded:
    """The official captioner's incremental decoding (beit3/modeling_finetune.py and engine_for_finetuning.py)."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.kept: dict[int, dict[str, Tensor]] = {n: {} for n in range(len(both.library.beit3.encoder.layers))}  # type: ignore[union-attr, arg-type, operator]
        self.length = 0

    def __call__(self, new: Tensor) -> Tensor:
        both, first = self.both, self.length == 0
        ids = torch.cat((new, torch.full((len(new), 1), MASK)), 1)
        length = self.length + ids.shape[1]
        total = both.patches + length
        seen = torch.zeros(total, total)
        seen[:, : both.patches] = 1
        seen[both.patches :, both.patches :] = torch.ones(length, length).tril()
        mask = (1 - seen) * -1e8
        actual = both.library.beit3(  # type: ignore[operator]
            textual_tokens=ids,
            visual_tokens=both.pixels if first else None,
            attn_mask=mask if first else mask[-ids.shape[1] :],
            incremental_state=self.kept,
            positions=None if first else torch.arange(self.length + 2, length + 2)[None],
        )["encoder_out"]
        for layer in self.kept.values():
            for name in layer:
                layer[name] = layer[name][:, :, :-1]
        self.length += new.shape[1]
        scores: Tensor = both.library.mlm_head(actual[:, -1])  # type: ignore[operator]
        return scores


@pytest.mark.parametrize("kind", [Cached, Recomputed])
@torch.no_grad()
def test_every_step_of_decoding_gives_torchscales_scores(both: Both, kind: Callable[..., Any]) -> None:
    programs = compile_incremental(both.blueprint, "caption")
    how = Search(end=END, pad=PAD, max_length=both.length, mask=MASK)
    start = torch.full((ROWS, 1), BEGIN)
    ours = kind(both.ours, programs, {"image": Image(both.pixels)}, start, how, both.length)
    reference = Decoded(both)
    near(ours.begin(start)[1], reference(start))
    for _ in range(both.length - 2):
        word = torch.randint(4, WORDS, (ROWS, 1))
        near(ours.step(word), reference(word))
