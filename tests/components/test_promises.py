"""Every component keeps what it promises the compiler; components that lie are caught."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compose_vlp import registry
from compose_vlp.compiler.probes import probe
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.graph.kinds import Kind, Pattern, Port, Traits
from compose_vlp.graph.signature import signature
from compose_vlp.values import Embedding, Image, Logits, Mask, Part, Sequence, Similarity, Text

ROWS = 3
TOKENIZER = Ids(Ids.Config(vocab_size=20, begin="18", end="19"))
MASKED = Ids(Ids.Config(vocab_size=20, begin="18", end="19", mask="17"))


def embedding(rows: int = ROWS) -> Embedding:
    return Embedding(torch.randn(rows, 8))


def text() -> Text:
    lengths = torch.tensor([6, 3, 4])
    ids = torch.randint(1, 20, (ROWS, 6)).masked_fill(torch.arange(6) >= lengths[:, None], 0)
    return Text(ids, lengths, frame=6)


def features(*, padded: bool = True, words: bool = False) -> Sequence:
    on = text()
    part = Part("language", 0, 6, text=on) if words else Part("tokens", 0, 6, cls="first")
    return Sequence(torch.randn(ROWS, 6, 8), (part,), on.valid if padded else None)


def pair() -> Sequence:
    """A text and the four patches of a picture with their CLS, as embeddings give them."""
    on = text()
    parts = (Part("language", 0, 6, "first", on), Part("vision", 6, 5, "first"))
    valid = torch.cat((on.valid, torch.ones(ROWS, 5, dtype=torch.bool)), 1)
    return Sequence(torch.randn(ROWS, 11, 8), parts, valid)


def image(size: int = 16) -> Image:
    return Image(torch.randn(ROWS, 3, size, size))


def grid() -> Sequence:
    return Sequence(torch.randn(ROWS, 4, 8), (Part("vision", 0, 4),))


@dataclass(frozen=True)
class Case:
    """A small instance of a kind and what it is called on."""

    settings: dict[str, Any] = field(default_factory=dict)
    arguments: Any = dict


TOWER = {"width": 8, "depth": 2, "heads": 2}
QUIET = {"dropout": 0, "attention_dropout": 0}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

CASES: dict[str, list[Case]] = {
    "vit": [
        Case({**TOWER, "patch": 8, "size": 16}, lambda: {"image": image()}),
        Case({**TOWER, "patch": 8, "size": 16, "drop_path": 0.5}, lambda: {"image": image()}),
        Case({**TOWER, "patch": 4, "size": 16, "stem": "convolution", "cls": "none"}, lambda: {"image": image()}),
    ],
    "timm": [
        Case(
            {"model": "vit_tiny_patch16_224", "size": 32, "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}},
            lambda: {"image": image(32)},
        ),
        Case({"model": "test_resnet", "size": 64}, lambda: {"image": image(64)}),
    ],
    "transformers": [
        Case({"model": "bert", "options": BERT, "vocab_size": 20, "length": 6}, lambda: {"text": text()}),
    ],
    "causal_decoder": [
        Case({**TOWER, "vocab_size": 20, "length": 6, "cls": "last", "final_norm": "cls"}, lambda: {"x": text()}),
        Case({**TOWER, "vocab_size": 20, "length": 6, "cls": "last", "cls_mask": "shifted"}, lambda: {"x": text()}),
        Case({**TOWER, "vocab_size": 20, "length": 6, "dropout": 0.3}, lambda: {"x": text()}),
        Case(
            {**TOWER, "cross_attention": True, "cross_ffn": True, "context_norm": True, "context_width": 8},
            lambda: {"x": features(words=True), "context": features()},
        ),
    ],
    "bert_encoder": [
        Case({**TOWER, **QUIET, "vocab_size": 20, "length": 6}, lambda: {"x": text()}),
        Case({**TOWER, "vocab_size": 20, "length": 6}, lambda: {"x": text()}),
        Case(
            {**TOWER, **QUIET, "vocab_size": 20, "length": 6, "cross_attention": "optional", "context_width": 8},
            lambda: {"x": text(), "context": features()},
        ),
    ],
    "text_decoder": [
        Case({**TOWER, "vocab_size": 20, "length": 6}, lambda: {"x": text()}),
        Case(
            {**TOWER, **QUIET, "vocab_size": 20, "length": 6, "context_width": 8},
            lambda: {"x": text(), "context": features()},
        ),
    ],
    "cross_attention_fuser": [
        Case({**TOWER, "context_width": 8}, lambda: {"x": features(words=True), "context": features()}),
        Case({**TOWER, **QUIET, "context_width": 8}, lambda: {"x": features(words=True), "context": features()}),
    ],
    "patch_embedding": [
        Case({"width": 8, "patch": 8, "size": 16, "types": 2}, lambda: {"x": image(), "type": 1}),
        Case(
            {"width": 8, "patch": 8, "size": 16, "mask_token": True},
            lambda: {"x": image(), "hidden": Mask(torch.rand(ROWS, 4) < 0.5)},
        ),
        Case({"width": 8, "input_width": 8, "tokens": 4, "cls": "none"}, lambda: {"x": grid()}),
    ],
    "word_embedding": [
        Case({"width": 8, "vocab_size": 20, "length": 6, "type": True}, lambda: {"x": text()}),
        Case({"width": 8, "vocab_size": 20, "length": 6, "dropout": 0.5}, lambda: {"x": text()}),
        Case(
            {"width": 8, "vocab_size": 20, "length": 6, "embedding_norm": False, "zero_padding": True},
            lambda: {"x": text()},
        ),
    ],
    "multiway_transformer": [
        Case(TOWER, lambda: {"x": pair()}),
        Case({**TOWER, "attention_experts": True, "sub_norm": True, "drop_path": 0.5}, lambda: {"x": pair()}),
        Case(
            {**TOWER, "positions": {"use": "relative", "frame": 9}, "grid": 2, "layer_scale": 0.1, "key_bias": False},
            lambda: {"x": pair()},
        ),
        Case({**TOWER, "experts": ("any",), "drop_path": 0.5, "skips": "part"}, lambda: {"x": pair()}),
    ],
    "pooler": [
        Case({"width": 8}, lambda: {"x": embedding()}),
        Case({"width": 8, "normed": True}, lambda: {"x": embedding()}),
    ],
    "mlp_head": [
        Case({"width": 8, "classes": 4}, lambda: {"x": embedding()}),
        Case({"width": 8, "classes": 4, "hidden": 0, "input_norm": True}, lambda: {"x": embedding()}),
    ],
    "attention_pooler": [Case({"queries": 2, "heads": 2, "input_width": 8}, lambda: {"x": features()})],
    "projection": [
        Case({"out": 5, "width": 8}, lambda: {"x": embedding()}),
        Case({"out": 5, "width": 8}, lambda: {"x": features()}),
        Case({"out": 5, "width": 8, "hidden": True}, lambda: {"x": features()}),
    ],
    "similarity": [
        Case({}, lambda: {"x": embedding(), "y": embedding(5)}),
        Case({"learned": "log_scale"}, lambda: {"x": embedding(), "y": embedding(ROWS)}),
        Case({"learned": "nothing"}, lambda: {"x": embedding(), "y": embedding(5)}),
    ],
    "linear_head": [
        Case({"classes": 4, "width": 8}, lambda: {"x": embedding()}),
        Case({"classes": 4, "width": 8}, lambda: {"x": features()}),
    ],
    "lm_head": [
        Case({"width": 8, "vocab_size": 20, "transform": True, "bias": True}, lambda: {"x": features(words=True)}),
    ],
    "mlm_head": [Case({"width": 8, "vocab_size": 20}, lambda: {"x": features(words=True)})],
    "codebook": [Case({"size": 5, "code_width": 4, "width": 8}, lambda: {"x": grid()})],
    "feature_queue": [Case({"size": 6, "width": 8}, lambda: {"image": embedding(), "text": embedding()})],
    "hard_negative_miner": [
        Case(arguments=lambda: {"i2t": Similarity(torch.randn(ROWS, 4)), "t2i": Similarity(torch.randn(ROWS, 4))})
    ],
    "text_assignment": [Case(arguments=lambda: {"i2i": Similarity(torch.randn(ROWS, 4))})],
    "mlm_masker": [
        Case(arguments=lambda: {"text": text(), "tokenizer": MASKED}),
        Case({"probability": 0.9, "mask": 0.2}, lambda: {"text": text(), "tokenizer": MASKED}),
        Case({"fixed": True, "random_from": 3}, lambda: {"text": text(), "tokenizer": MASKED}),
    ],
    "patch_masker": [Case({"patch": 4, "size": 16}, lambda: {"image": image()})],
    "normalize": [Case(arguments=lambda: {"x": embedding()})],
    "softmax": [
        Case(arguments=lambda: {"x": Logits(torch.randn(ROWS, 4))}),
        Case(arguments=lambda: {"x": Similarity(torch.randn(ROWS, 4))}),
    ],
    "first": [Case(arguments=lambda: {"x": features()})],
    "last": [Case(arguments=lambda: {"x": features()}), Case(arguments=lambda: {"x": features(padded=False)})],
    "mean": [Case(arguments=lambda: {"x": features()}), Case(arguments=lambda: {"x": features(padded=False)})],
    "join": [Case(arguments=lambda: {"vision": features(padded=False), "language": features(words=True)})],
    "add": [Case(arguments=lambda: {"values": [embedding(), embedding()]})],
    "average": [Case(arguments=lambda: {"values": [features(), features()]})],
    "concat": [Case(arguments=lambda: {"values": [embedding(), embedding()]})],
    "rows": [Case(arguments=lambda: {"values": [features(), features(padded=False)]})],
    "begin": [Case(arguments=lambda: {"text": text(), "token": "7", "tokenizer": TOKENIZER})],
    "prompt": [Case(arguments=lambda: {"words": "3 4", "text": text(), "tokenizer": TOKENIZER})],
    "gathered": [Case(arguments=lambda: {"x": embedding()})],
}


def test_every_component_and_function_is_probed() -> None:
    built_in = registry.catalogue()  # other tests of this process may have declared kinds of their own
    assert {name for name, kind in built_in.items() if kind.category in ("component", "function")} == CASES.keys()


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, cases in CASES.items() for case in cases],
    ids=lambda x: x if isinstance(x, str) else str(x.settings),
)
def test_promises_are_kept(name: str, case: Case) -> None:
    kind = registry.get(name)
    made = kind.implementation
    if kind.category == "component":
        made = made(kind.config(**case.settings))  # type: ignore[misc]
    assert probe(kind, made, case.arguments()) == []


# --- components that lie ----------------------------------------------------------------------------------------


class SoftmaxOverRows(nn.Module):
    def forward(self, x: Embedding) -> Embedding:
        return Embedding(x.features.softmax(0))


class Centred(nn.Module):
    def forward(self, x: Embedding) -> Embedding:
        return Embedding(x.features - x.features.mean(0).detach())


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)

    def forward(self, x: Embedding) -> Embedding:
        return Embedding(self.norm(x.features))


class Shuffled(nn.Module):
    def forward(self, x: Embedding) -> Embedding:
        return Embedding(x.features.roll(1, 0))


class StraightThrough(nn.Module):
    """Its values depend on their own rows alone, its gradients on all."""

    def forward(self, x: Embedding) -> Embedding:
        mean = x.features.mean(0)
        return Embedding(x.features + (mean - mean.detach()).nan_to_num() * 0 + _gradient_only(mean))


class _GradientOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def _gradient_only(x: Tensor) -> Tensor:
    zero: Tensor = _GradientOnly.apply(x)  # type: ignore[no-untyped-call]
    return zero


class Counting(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1), persistent=False)

    def forward(self, x: Embedding) -> Embedding:
        self.calls.add_(1)
        return x


class Remembering(nn.Module):
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, 8))

    def forward(self, x: Embedding) -> Embedding:
        self.rows = torch.cat((self.rows, x.features.detach()))
        return x


class Restless(nn.Module):
    """Says that it learns nothing while it is frozen, and looks at nothing but the mode."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Embedding) -> Embedding:
        self.calls.add_(1)
        return Embedding(x.features - x.features.mean(0))


def test_what_learns_is_held_to_its_promises_while_frozen() -> None:
    kind = replace(lying(Restless), traits=Traits(state="learns"))
    actual = probe(kind, Restless(), {"x": embedding()})
    assert {sentence.split(":")[0] for sentence in actual} == {"frozen, rows", "frozen, state"}


class Dropping(nn.Module):
    def forward(self, x: Embedding) -> Embedding:
        return Embedding(nn.functional.dropout(x.features, 0.5, self.training))


class Tossing(nn.Module):
    def forward(self, x: Embedding) -> Embedding:
        return Embedding(x.features * float(np.random.rand() < 2))  # noqa: NPY002


LIARS: list[tuple[type[nn.Module], str]] = [
    (SoftmaxOverRows, "rows"),
    (Centred, "rows"),
    (Normed, "rows"),
    (Shuffled, "rows"),
    (StraightThrough, "rows"),
    (Counting, "state"),
    (Remembering, "state"),
    (Dropping, "draws"),
    (Tossing, "draws"),
]


def lying(kind: type[nn.Module]) -> Kind:
    ports = {"x": Port("x", (Pattern("Embedding", ("rows", "width")),))}
    returns = Pattern("Embedding", ("rows", "width"))
    traits = Traits(rows="independent", state="none", draws="none")
    return Kind(kind.__name__, "component", ports, signature(ports, returns), traits=traits, implementation=kind)


@pytest.mark.parametrize(("liar", "promise"), LIARS)
def test_a_broken_promise_is_found(liar: type[nn.Module], promise: str) -> None:
    actual = probe(lying(liar), liar(), {"x": embedding()})
    assert {sentence.split(":")[0] for sentence in actual} == {promise}


def test_what_is_not_promised_is_not_probed() -> None:
    honest = Kind("honest", "component", lying(Centred).ports, lying(Centred).output, implementation=Centred)
    assert probe(honest, Dropping(), {"x": embedding()}) == []


class FarContext(nn.Module):
    """Gives each row the first context, whatever `rows` says."""

    def keys_values(self, context: Sequence) -> Tensor:
        return context.features

    def forward(
        self, x: Embedding, context: Sequence | None = None, *, kv: Tensor | None = None, rows: Tensor | None = None
    ) -> Embedding:
        seen = kv if context is None else context.features
        assert seen is not None
        return Embedding(x.features + seen[:, 0])


def test_a_context_that_is_indexed_wrongly_is_found() -> None:
    ports = {
        "x": Port("x", (Pattern("Embedding", ("rows", "width")),)),
        "context": Port("context", (Pattern("Sequence", ("rows", "m", "context_width")),)),
    }
    returns = Pattern("Embedding", ("rows", "width"))
    kind = Kind("far", "component", ports, signature(ports, returns), traits=Traits(context="indexed"))
    actual = probe(kind, FarContext(), {"x": embedding(), "context": features()})
    assert actual == ["context: keys_values(context) with rows= gives other values"]


class WrongRows(nn.Module):
    def forward(self, x: Sequence, *, at: Tensor | None = None) -> Logits:
        flat = x.features.flatten(0, 1)
        return Logits(x.features) if at is None else Logits(flat[at.flip(0)], at=at)


def test_a_head_that_takes_other_rows_than_asked_is_found() -> None:
    ports = {"x": Port("x", (Pattern("Sequence", ("rows", "tokens", "width")),))}
    kind = Kind("wrong", "component", ports, signature(ports, Pattern("Logits")), traits=Traits(selects=True))
    assert probe(kind, WrongRows(), {"x": features()}) == [
        "selects: `at` gives other scores than the whole result has there"
    ]
