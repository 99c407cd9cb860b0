"""Modules that several kinds are made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compose_vlp.components.ffns.mlp import MLP
from compose_vlp.components.layers.attention import Linear, Scope, SelfAttention, branch_std
from compose_vlp.components.layers.on_text import text_features
from compose_vlp.components.layers.transformer import Layer, Residual, activate, drop_path
from compose_vlp.slots import Place
from compose_vlp.values import Part, Sequence, Text


def mlp(width: int, std: float | None = None) -> MLP:
    return MLP(MLP.Config(), Place(width, std=std))


def test_a_residual_norms_before_its_branch_or_after_the_sum() -> None:
    branch, norm, x = nn.Linear(4, 4), nn.LayerNorm(4), torch.randn(2, 3, 4)
    assert torch.allclose(Residual(branch, norm)(x), x + branch(norm(x)))
    assert torch.allclose(Residual(branch, norm, placement="post")(x), norm(x + branch(x)))


def test_noise_is_of_training_alone() -> None:
    x = torch.randn(64, 3, 4)
    noisy = Residual(nn.Identity(), nn.Identity(), dropout=0.5, drop_path=0.5)
    assert not torch.equal(noisy(x), noisy(x))
    assert torch.equal(noisy.eval()(x), 2 * x)


def test_drop_path_drops_whole_rows_and_keeps_the_mean() -> None:
    x = torch.ones(4000, 2, 3)
    out = drop_path(x, 0.25)
    rows = out.flatten(1)
    assert bool(((rows == 0).all(1) | torch.isclose(rows, torch.tensor(4 / 3)).all(1)).all())
    assert float(out.mean()) == pytest.approx(1, abs=0.05)
    assert drop_path(x, 0.0) is x


def test_gelu_is_the_exact_one_and_quick_gelu_is_clips() -> None:
    x = torch.linspace(-3, 3, 7)
    assert torch.allclose(activate(x, "gelu"), x * torch.distributions.Normal(0, 1).cdf(x), atol=1e-6)
    assert torch.allclose(activate(x, "quick_gelu"), x * (1.702 * x).sigmoid())


def test_self_attention_is_torchs() -> None:
    ours, reference = SelfAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.qkv.weight)
        reference.out_proj.load_state_dict(ours.out.state_dict())
    x, valid = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = reference(x, x, x, key_padding_mask=~valid)[0]
    assert torch.allclose(ours(x, Scope(valid)), expected, atol=1e-6)


def test_weights_of_attention_are_dropped_in_training_alone() -> None:
    attention, x = SelfAttention(8, 2, dropout=0.5), torch.randn(2, 5, 8)
    assert not torch.equal(attention(x, Scope()), attention(x, Scope()))
    attention.eval()
    assert torch.equal(attention(x, Scope()), attention(x, Scope()))


def test_maps_are_drawn_once_with_the_width_that_they_are_told() -> None:
    assert float(Linear(400, 400).weight.detach().std()) == pytest.approx(0.05, rel=0.05)
    std = branch_std(64, 8)
    assert std == pytest.approx((2 * 8 * 64) ** -0.5)
    assert float(mlp(64, std=std).fc2.weight.detach().std()) == pytest.approx(std, rel=0.1)
    assert not Linear(4, 4).bias.any()


def test_a_layer_without_a_context_skips_cross_attention() -> None:
    def branch(module: nn.Module) -> Residual:
        return Residual(module, nn.LayerNorm(8))

    layer = Layer(branch(SelfAttention(8, 2)), branch(mlp(8)), branch(nn.Identity()))
    bare = Layer(layer.self_attention, layer.ffn)
    x = torch.randn(2, 3, 8)
    assert torch.equal(layer(x, Scope()), bare(x, Scope()))


def test_text_features_are_those_at_words() -> None:
    text = Text(torch.ones(2, 3, dtype=torch.long), torch.tensor([3, 2]), 3)
    features = torch.randn(2, 6, 4)
    parts = (Part("vision", 0, 2), Part("language", 2, 4, "last", text))
    actual, on = text_features(Sequence(features, parts))
    assert on is text
    assert torch.equal(actual, features[:, 2:5])
    actual, on = text_features(Sequence(features, parts[:1]))
    assert on is None
    assert torch.equal(actual, features)
