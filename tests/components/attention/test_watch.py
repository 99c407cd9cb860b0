"""The weights of a chosen attention are kept, with gradients, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from compose_vlp.components.attention.attend import attend, explain, use_backend
from compose_vlp.components.attention.watch import watched
from compose_vlp.components.fusers.cross_attention_fuser import CrossAttentionFuser
from compose_vlp.components.layers.attention import Scope, View
from compose_vlp.values import Part, Sequence


def fuser() -> CrossAttentionFuser:
    return CrossAttentionFuser(
        CrossAttentionFuser.Config(width=16, depth=2, heads=4, context_width=12, contexts=1)
    ).eval()


def sequence(width: int, tokens: int) -> Sequence:
    valid = torch.arange(tokens) < torch.tensor([tokens, 2])[:, None]
    return Sequence(torch.randn(2, tokens, width), (Part("x", 0, tokens, "first"),), valid)


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_weights_of_one_layers_cross_attention_are_kept_with_their_gradients(backend: str) -> None:
    model, x, context = fuser(), sequence(16, 4), sequence(12, 5)
    expected = model(x, context=context).features
    with use_backend(backend), watched(model.layers[1].cross_attention.branch) as maps:
        actual = model(x, context=context).features
    assert torch.allclose(actual, expected, atol=1e-6)
    (weights,) = maps
    assert weights.shape == (2, 4, 4, 5)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 4))
    assert not weights[1, :, :, 2:].any(), "padding is not looked at"
    (slopes,) = torch.autograd.grad(actual[:, 0].square().sum(), weights)
    assert slopes.shape == weights.shape
    assert bool(slopes[:, :, 0].any())
    assert not bool(slopes[:, :, 1:].any()), "other words' looking is nothing to the CLS in the last layer"


def test_weights_times_values_are_what_attention_gives() -> None:
    model, x, context = fuser(), sequence(16, 4), sequence(12, 5)
    branch = model.layers[0].cross_attention.branch
    with watched(branch) as maps:
        given = branch(x.features, Scope(), View(context.features, context.valid))
    _, values = branch.keys_values(context.features)
    mixed = torch.einsum("bhnm,bmhd->bnhd", maps[0], values).flatten(2)
    assert torch.allclose(branch.out(mixed), given, atol=1e-6)


def test_nothing_is_kept_afterwards_nor_of_other_modules() -> None:
    model, x, context = fuser(), sequence(16, 4), sequence(12, 5)
    queries = torch.randn(1, 2, 2, 4)
    with watched(model.layers[0].cross_attention.branch) as maps:
        attend(queries, queries, queries)
        assert explain(queries, queries, queries).backend != "eager"
    assert maps == []
    model(x, context=context)
    assert maps == []


def test_a_call_that_fails_leaves_nothing_watched() -> None:
    model = fuser()
    branch = model.layers[0].cross_attention.branch
    with watched(branch) as maps, pytest.raises(RuntimeError):
        branch(torch.randn(1, 2, 3), Scope(), View(torch.randn(1, 2, 12)))
    queries = torch.randn(1, 2, 2, 4)
    attend(queries, queries, queries)
    assert maps == []
