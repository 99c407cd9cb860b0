"""BERT as an encoder: the library's numbers, alone and looking at pictures; two pictures at once; what is declared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compose_vlp import registry
from compose_vlp.components.decoders.text_decoder import TextDecoder
from compose_vlp.components.encoders.bert_encoder import BertEncoder
from compose_vlp.components.layers.attention import MergedCrossAttention, Scope, View
from compose_vlp.errors import UserError
from compose_vlp.graph.types import Flow, SequenceType, TextType, one_part
from compose_vlp.values import Part, Sequence, Text
from compose_vlp.values.cache import Cache

SIZES = {"width": 16, "depth": 2, "heads": 4, "vocab_size": 30, "length": 9, "context_width": 12}
LOOKING = {**SIZES, "cross_attention": "optional", "token_types": False}


def words() -> Text:
    lengths = torch.tensor([6, 4, 1])
    ids = torch.randint(1, 30, (3, 6)).masked_fill(torch.arange(6) >= lengths[:, None], 0)
    return Text(ids, lengths, frame=9)


def picture(rows: int = 3) -> Sequence:
    valid = torch.arange(5) < torch.tensor([5, 3, 4])[:rows, None]
    return Sequence(torch.randn(rows, 5, 12), (Part("vision", 0, 5),), valid)


def perturbed(module: Any) -> Any:
    """In evaluation mode, with no weight, bias or norm at a value that hides a mistake."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


def blips(ours: Any) -> Any:
    """The `transformers` library's text tower of BLIP, which is BERT with cross-attention, with our weights."""
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    c = ours.config
    config = BlipTextConfig(
        vocab_size=c.vocab_size, hidden_size=c.width, encoder_hidden_size=12, intermediate_size=4 * c.width,
        num_hidden_layers=c.depth, num_attention_heads=c.heads, max_position_embeddings=c.length,
        hidden_act="gelu", layer_norm_eps=1e-12, attn_implementation="eager",
    )  # fmt: skip
    reference = BlipTextModel(config, add_pooling_layer=False).eval()
    state = {name.replace("embedding_norm.", "embeddings.LayerNorm."): t for name, t in ours.state_dict().items()}
    state["embeddings.word_embeddings.weight"] = state.pop("embedding.weight")
    state["embeddings.position_embeddings.weight"] = state.pop("positions")
    for name in [name for name in state if name.startswith("layers.")]:
        state |= _renamed(name, state.pop(name))
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("position_ids") for name in missing)
    return reference


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    _, number, block, *rest = name.split(".")
    layer, end = f"encoder.layer.{number}", rest[-1]
    if block == "ffn":
        where = {"norm": "output.LayerNorm", "fc1": "intermediate.dense", "fc2": "output.dense"}[rest[-2]]
        return {f"{layer}.{where}.{end}": tensor}
    home = f"{layer}.{'attention' if block == 'self_attention' else 'crossattention'}"
    parts = {"norm": ("output.LayerNorm",), "out": ("output.dense",), "q": ("self.query",),
             "kv": ("self.key", "self.value"), "qkv": ("self.query", "self.key", "self.value")}[rest[-2]]  # fmt: skip
    return {f"{home}.{p}.{end}": t for p, t in zip(parts, tensor.chunk(len(parts)), strict=True)}


def theirs_of(model: Any, text: Text, seen: Sequence | None, *, decoder: bool) -> Tensor:
    given = {"input_ids": text.ids, "attention_mask": text.valid.long(), "is_decoder": decoder}
    if seen is not None:
        given["encoder_hidden_states"] = seen.features
    hidden: Tensor = blips(model)(**given).last_hidden_state
    return hidden


@pytest.mark.parametrize("looks", [False, True])
def test_an_encoder_gives_what_transformers_gives(looks: bool) -> None:
    model, text = perturbed(BertEncoder(BertEncoder.Config(**LOOKING))), words()
    seen = replace(picture(), valid=None) if looks else None
    actual = model(text, context=seen)
    expected = theirs_of(model, text, seen, decoder=False)
    assert torch.allclose(actual.features[text.valid], expected[text.valid], atol=1e-5)


@pytest.mark.parametrize("looks", [False, True])
def test_a_decoder_gives_what_transformers_gives(looks: bool) -> None:
    model, text = perturbed(TextDecoder(TextDecoder.Config(**LOOKING))), words()
    seen = replace(picture(), valid=None) if looks else None
    actual = model(text, context=seen)
    expected = theirs_of(model, text, seen, decoder=True)
    assert torch.allclose(actual.features[text.valid], expected[text.valid], atol=1e-5)


@pytest.mark.parametrize("kind", [BertEncoder, TextDecoder])
def test_padding_of_the_context_is_not_looked_at(kind: Any) -> None:
    model, text, seen = perturbed(kind(kind.Config(**LOOKING))), words(), picture()
    assert seen.valid is not None
    noisy = seen.with_features(seen.features.masked_fill(~seen.valid[..., None], 1e3))
    assert torch.equal(model(text, context=seen).features, model(text, context=noisy).features)


def test_the_type_of_the_first_text_is_added_to_every_word() -> None:
    from transformers import BertConfig, BertModel

    model, text = perturbed(BertEncoder(BertEncoder.Config(**SIZES))), words()
    without = perturbed(BertEncoder(BertEncoder.Config(**{**SIZES, "token_types": False})))
    without.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(model(text).features, without(text).features)
    with torch.no_grad():
        without.positions.add_(model.token_types[0])
    assert torch.allclose(model(text).features, without(text).features, atol=1e-6)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=9,
    )  # fmt: skip
    expected = sum(p.numel() for p in BertModel(config, add_pooling_layer=False).parameters())
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(("asked", "std"), [({}, 0.02), ({"init_std": 0.05}, 0.05)])
@pytest.mark.parametrize("kind", [BertEncoder, TextDecoder])
def test_weights_are_drawn_as_berts_or_as_asked(kind: Any, asked: dict[str, float], std: float) -> None:
    model = kind(kind.Config(**{**LOOKING, "width": 64, "vocab_size": 500, **asked}))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert bool((parameter == float(name.endswith("weight"))).all())
        elif name.endswith("bias"):
            assert not bool(parameter.any())
        else:
            assert float(parameter.detach().std()) == pytest.approx(std, rel=0.15), name


def test_noise_is_of_training_alone() -> None:
    model, text = BertEncoder(BertEncoder.Config(**SIZES)), words()
    assert not torch.equal(model(text).features, model(text).features)
    model.eval()
    assert torch.equal(model(text).features, model(text).features)


def test_where_nothing_can_be_looked_at_there_is_no_cross_attention() -> None:
    blind = BertEncoder(BertEncoder.Config(**{**LOOKING, "context_width": None}))
    assert not [name for name in blind.state_dict() if "cross_attention" in name]
    assert not [name for name in BertEncoder(BertEncoder.Config(**SIZES)).state_dict() if "cross_attention" in name]


# --- two pictures -------------------------------------------------------------------------------------------------


def test_two_pictures_are_averaged_in_lower_layers_and_mapped_in_upper_ones() -> None:
    model = perturbed(BertEncoder(BertEncoder.Config(**LOOKING, contexts=2)))
    branches = [layer.cross_attention.branch for layer in model.layers]
    assert [branch.merge is not None for branch in branches] == [False, True]
    left, right, x = picture(), picture(), torch.randn(3, 4, 16)
    for branch in branches:
        assert isinstance(branch, MergedCrossAttention)
        a, b = (
            attention(x, Scope(), View(seen.features, seen.valid))
            for attention, seen in zip(branch.attentions, (left, right), strict=True)
        )
        expected = (a + b) / 2 if branch.merge is None else branch.merge(torch.cat((a, b), -1))
        actual = branch(x, Scope(), [View(left.features, left.valid), View(right.features, right.valid)])
        assert torch.allclose(actual, expected, atol=1e-6)
    text = words()
    whole = model(text, context=[left, right]).features
    assert not torch.allclose(whole, model(text, context=[right, left]).features)
    rows = torch.tensor([2, 0, 0])
    indexed = [Sequence(s.features[rows], s.parts, s.valid[rows]) for s in (left, right)]  # type: ignore[index]
    actual = model(text, kv=model.keys_values([left, right]), rows=rows).features
    assert torch.allclose(actual, model(text, context=indexed).features, atol=1e-6)


def test_where_the_map_begins_may_be_said() -> None:
    never = BertEncoder(BertEncoder.Config(**LOOKING, contexts=2, merge_from=2))
    assert not [name for name in never.state_dict() if ".merge." in name]


def test_two_like_pictures_are_one_where_averaged() -> None:
    """Averaged cross-attentions of equal weights at one picture are a single one: how BLIP's checkpoints start."""
    single = perturbed(BertEncoder(BertEncoder.Config(**LOOKING)))
    double = BertEncoder(BertEncoder.Config(**LOOKING, contexts=2, merge_from=2)).eval()
    state = {}
    for name, tensor in single.state_dict().items():
        before, inside, after = name.partition("cross_attention.branch.")
        for copy in (f"{before}{inside}attentions.{i}.{after}" for i in (0, 1)) if inside else (name,):
            state[copy] = tensor
    double.load_state_dict(state)
    text, seen = words(), picture()
    assert torch.allclose(double(text, context=[seen, seen]).features, single(text, context=seen).features, atol=1e-6)


# --- word by word -------------------------------------------------------------------------------------------------


def test_a_decoder_goes_on_word_by_word() -> None:
    model, seen = perturbed(TextDecoder(TextDecoder.Config(**LOOKING))), picture()
    ids = torch.randint(1, 30, (3, 7))
    whole = model(Text(ids, torch.full((3,), 7), 9), context=seen).features
    cache, actual, projected = Cache(), [], []
    model.layers[0].cross_attention.branch.kv.register_forward_hook(lambda *_: projected.append(1))
    for start, end in ((0, 2), (2, 3), (3, 7)):
        part = Text(ids[:, start:end], torch.full((3,), end - start), 9)
        actual.append(model(part, context=seen, cache=cache).features)
    assert torch.allclose(torch.cat(actual, 1), whole, atol=1e-5)
    assert (cache.length, len(projected)) == (7, 1)


def test_a_decoder_has_the_encoders_names_so_that_it_can_share_all() -> None:
    encoder = BertEncoder(BertEncoder.Config(**LOOKING)).state_dict()
    decoder = TextDecoder(TextDecoder.Config(**LOOKING)).state_dict()
    assert {name: tensor.shape for name, tensor in encoder.items()} == {n: t.shape for n, t in decoder.items()}


# --- what is known beforehand -------------------------------------------------------------------------------------

CAPTION = TextType(length=9, vocab_size=30, root="caption", reads={"caption": Flow.EACH})
VISION = SequenceType(width=12, parts=one_part("vision", 5), reads={"image": Flow.EACH})


def test_every_word_reads_all_of_text_and_context() -> None:
    output_type = registry.get(BertEncoder.kind_name).output(
        BertEncoder.Config(**LOOKING), {"x": CAPTION, "context": (VISION, VISION)}
    )
    (part,) = output_type.parts
    assert (part.name, part.length, part.cls, part.text, output_type.width) == ("language", 9, "first", CAPTION, 16)
    assert part.reads == output_type.reads == {"caption": Flow.ALL, "image": Flow.ALL}


def test_a_decoders_words_read_what_came_before() -> None:
    output_type = registry.get(TextDecoder.kind_name).output(
        TextDecoder.Config(**LOOKING), {"x": CAPTION, "context": VISION}
    )
    assert output_type.parts[0].reads == {"caption": Flow.PAST, "image": Flow.ALL}
    assert output_type.parts[0].cls == "none"


@pytest.mark.parametrize("kind", [BertEncoder, TextDecoder])
def test_mistakes_are_told(kind: Any) -> None:
    blind = kind.Config(**{**SIZES, "cross_attention": "none"})
    with pytest.raises(UserError, match="`cross_attention` is none"):
        registry.get(kind.kind_name).output(blind, {"x": CAPTION, "context": VISION})
    (clash,) = kind.check(kind.Config(**{**SIZES, "heads": 3}))
    assert clash.message == "heads 3 does not divide width 16"


@pytest.mark.parametrize(("contexts", "count"), [(None, 1), (1, 1), (2, 0)])
def test_what_merges_contexts_is_a_clash_where_there_are_not_several(contexts: int | None, count: int) -> None:
    config = BertEncoder.Config(**LOOKING, contexts=contexts, merge_from=1)
    assert [clash.message for clash in BertEncoder.check(config)] == [
        "`merge_from` is read at several contexts, and there are none"
    ] * count
