"""The fuser is the upper half of a BERT that looks at pictures; of two pictures its layers take turns, or merge."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compose_vlp import registry
from compose_vlp.components.encoders.bert_encoder import BertEncoder
from compose_vlp.components.fusers.cross_attention_fuser import CrossAttentionFuser
from compose_vlp.components.layers.attention import Scope, View
from compose_vlp.errors import UserError
from compose_vlp.graph.types import Flow, SequenceType, TextType, one_part
from compose_vlp.values import Part, Sequence, Text

Config = CrossAttentionFuser.Config
SIZES = {"width": 16, "depth": 2, "heads": 4, "context_width": 12, "contexts": 1}


def fuser(**settings: Any) -> CrossAttentionFuser:
    made = CrossAttentionFuser(Config(**SIZES | settings))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


def sequence(width: int, tokens: int = 5) -> Sequence:
    valid = torch.arange(tokens) < torch.tensor([tokens, 3, 1])[:, None]
    return Sequence(torch.randn(3, tokens, width), (Part("vision", 0, tokens, "first"),), valid)


@pytest.mark.parametrize(("asked", "std"), [({}, 0.02), ({"init_std": 0.05}, 0.05)])
def test_weights_are_drawn_as_berts_or_as_asked(asked: dict[str, float], std: float) -> None:
    made = CrossAttentionFuser(Config(**SIZES | {"width": 64} | asked))
    for name, parameter in made.named_parameters():
        if name.endswith("weight") and "norm" not in name:
            assert float(parameter.detach().std()) == pytest.approx(std, rel=0.15), name


def test_it_goes_on_where_an_encoder_stopped() -> None:
    lengths = torch.tensor([6, 4, 1])
    text, seen = Text(torch.randint(1, 30, (3, 6)), lengths, frame=9), sequence(12)
    whole = BertEncoder(
        BertEncoder.Config(width=16, depth=2, heads=4, vocab_size=30, length=9, context_width=12,
                           cross_attention="optional")
    ).eval()  # fmt: skip
    upper = fuser()
    upper.layers.load_state_dict(whole.layers.state_dict())
    embedded = Sequence(whole.embed(text.ids), (Part("language", 0, 6, "first", text),), text.valid)
    actual = upper(embedded, context=seen)
    assert torch.equal(actual.features, whole(text, context=seen).features)
    assert actual.parts == embedded.parts
    assert actual.valid is embedded.valid


def test_of_two_pictures_layers_take_turns() -> None:
    both, x, left, right = fuser(contexts=2), sequence(16), sequence(12, 7), sequence(12)
    assert len(both.layers) == 4
    expected = x.features
    for i, layer in enumerate(both.layers):
        seen = (left, right)[i % 2]
        expected = layer(expected, Scope(x.valid), View(seen.features, seen.valid))
    assert torch.equal(both(x, context=[left, right]).features, expected)
    indexed = both(x, kv=both.keys_values([left, right]), rows=torch.arange(3))
    assert torch.allclose(indexed.features, expected, atol=1e-6)


def test_twins_share_their_maps_to_keys_and_values_and_nothing_else() -> None:
    both = fuser(contexts=2)
    names = dict(both.layers.named_parameters(remove_duplicate=False))
    shared = {name for name, p in names.items() if name.startswith("0.") and p is names[f"1{name[1:]}"]}
    assert shared == {"0.cross_attention.branch.kv.weight", "0.cross_attention.branch.kv.bias"}
    apart = fuser(contexts=2, share_from=2)
    names = dict(apart.layers.named_parameters(remove_duplicate=False))
    assert len({id(parameter) for parameter in names.values()}) == len(names)


def test_layers_may_merge_two_pictures_as_blips_do() -> None:
    both = fuser(contexts=2, pairing="merge")
    assert len(both.layers) == 2
    assert [layer.cross_attention.branch.merge is not None for layer in both.layers] == [False, True]
    x, left, right = sequence(16), sequence(12, 7), sequence(12)
    actual = both(x, context=[left, right]).features
    assert torch.allclose(both(x, kv=both.keys_values([left, right])).features, actual, atol=1e-6)


def test_every_position_reads_every_other_and_all_of_the_context() -> None:
    caption = TextType(length=6, root="caption", reads={"caption": Flow.EACH})
    x = SequenceType(width=16, parts=one_part("language", 6, cls="first", text=caption, reads=[caption.reads]))
    vision = SequenceType(width=12, parts=one_part("vision", 5), reads={"image": Flow.EACH})
    output_type = registry.get(CrossAttentionFuser.kind_name).output(Config(**SIZES), {"x": x, "context": vision})
    assert output_type.parts[0].reads == output_type.reads == {"caption": Flow.ALL, "image": Flow.ALL}
    assert (output_type.parts[0].text, output_type.parts[0].cls) == (caption, "first")


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="it needs a `context`"):
        registry.get(CrossAttentionFuser.kind_name).output(Config(**SIZES), {"x": SequenceType(width=16)})
    (clash,) = CrossAttentionFuser.check(Config(**{**SIZES, "heads": 3}))
    assert clash.message == "heads 3 does not divide width 16"


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"share_from": 1}, ["`share_from` is read at several contexts, and there are none"]),
        ({"merge_from": 0, "contexts": 1}, ["`merge_from` is read at several contexts, and there are none"]),
        ({"merge_from": 1, "contexts": 2}, ["`merge_from` is read in merge pairing"]),
        ({"share_from": 1, "contexts": 2, "pairing": "merge"}, ["`share_from` is read in alternate pairing"]),
        ({"share_from": 1, "contexts": 2}, []),
        ({"merge_from": 1, "contexts": 2, "pairing": "merge"}, []),
    ],
)
def test_a_setting_of_several_contexts_that_nothing_reads_is_a_clash(
    settings: dict[str, Any], messages: list[str]
) -> None:
    clashes = CrossAttentionFuser.check(CrossAttentionFuser.Config(**{**SIZES, **settings}))
    assert [clash.message for clash in clashes] == messages
