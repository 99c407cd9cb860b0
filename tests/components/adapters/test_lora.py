"""LoRA computes what its paper says: the map's own product, and that of two small factors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compose_vlp.adapters import MapSizes
from compose_vlp.compiler.adapting import Adapted
from compose_vlp.compiler.probes import nothing_drawn, rows_by_derivative, rows_by_filling, state_unchanged
from compose_vlp.components.adapters.lora import LoRA
from compose_vlp.errors import UserError


def adapted(settings: LoRA.Config, *, bias: bool = True, inputs: int = 12, outputs: int = 7) -> Adapted:
    """A map of float64 whose second factor is not 0, as it is after the first step."""
    linear = nn.Linear(inputs, outputs, bias=bias).double()
    lora = LoRA(settings, MapSizes(inputs, outputs)).double()
    nn.init.normal_(lora.up)
    Adapted.make(linear, "lora", lora, "part.map", draws=settings.dropout > 0)
    assert isinstance(linear, Adapted)
    return linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rank", "alpha", "scale"), [(4, None, 1.0), (4, 16.0, 4.0), (7, 3.5, 0.5), (1, 1.0, 1.0)])
def test_the_map_is_w_plus_the_scaled_product_of_both_factors(
    rank: int, alpha: float | None, scale: float, bias: bool
) -> None:
    linear = adapted(LoRA.Config(rank=rank, alpha=alpha), bias=bias)
    x = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True)
    lora = linear.adapter
    assert isinstance(lora, LoRA)
    weight = linear.own_weight + scale * (lora.up @ lora.down)
    expected = x @ weight.T + (linear.bias if bias else 0)
    torch.testing.assert_close(linear(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(linear.weight, weight, rtol=1e-12, atol=1e-12)
    other = torch.randn(7, dtype=torch.float64)
    torch.testing.assert_close(linear.with_bias(x, other), x @ weight.T + other, rtol=1e-12, atol=1e-12)
    gradients, expected_gradients = (
        torch.autograd.grad(y.square().sum(), [x, lora.up, lora.down]) for y in (linear(x), expected)
    )
    for a, b in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_dropout_is_of_what_the_first_factor_sees_alone() -> None:
    linear = adapted(LoRA.Config(rank=4, alpha=8, dropout=0.25))
    lora = linear.adapter
    assert isinstance(lora, LoRA)
    x = torch.randn(50, 12, dtype=torch.float64)
    torch.manual_seed(5)
    computed = linear(x)
    torch.manual_seed(5)
    dropped = nn.functional.dropout(x, 0.25)
    assert ((dropped == 0) | torch.isclose(dropped, x / 0.75)).all() and (dropped == 0).any()
    expected = x @ linear.own_weight.T + linear.bias + 2 * (dropped @ lora.down.T @ lora.up.T)
    torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12)
    linear.eval()
    torch.testing.assert_close(linear(x), x @ linear.weight.T + linear.bias, rtol=1e-12, atol=1e-12)


def test_before_the_first_step_nothing_is_changed() -> None:
    torch.manual_seed(0)
    lora = LoRA(LoRA.Config(rank=4, alpha=16), MapSizes(64, 32))
    x, weight = torch.randn(5, 64), torch.randn(32, 64)
    assert torch.equal(lora(x, weight, None), x @ weight.T)
    assert torch.equal(lora.merged(weight), weight)
    assert lora.down.abs().max() <= 1 / 8 and lora.down.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.1)


def test_a_rank_beyond_the_map_is_refused() -> None:
    LoRA(LoRA.Config(rank=2), MapSizes(64, 2))
    with pytest.raises(UserError, match="`rank` 3 is more than a map of 64 to 2 has"):
        LoRA(LoRA.Config(rank=3), MapSizes(64, 2))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_it_keeps_what_it_promises(dropout: float) -> None:
    linear = adapted(LoRA.Config(rank=4, dropout=dropout))
    given: dict[str, Tensor] = {"x": torch.randn(3, 5, 12, dtype=torch.float64)}
    call = lambda arguments: linear(**arguments)  # noqa: E731
    assert not state_unchanged(call, given, linear)
    assert not rows_by_filling(call, given, frozenset({"x"}))
    assert not rows_by_derivative(call, given, frozenset({"x"}))
    assert bool(nothing_drawn(call, given)) == (dropout > 0), "as `noise` says"


def test_a_weight_that_is_read_past_its_map_is_the_merged_one() -> None:
    """torch's multi-head attention reads its last map's weight, and never calls it."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2).double()
    lora = LoRA(LoRA.Config(rank=2), MapSizes(8, 8)).double()
    nn.init.normal_(lora.up)
    x = torch.randn(4, 3, 8, dtype=torch.float64)
    plain = attention.out_proj.weight.detach().clone()
    Adapted.make(attention.out_proj, "lora", lora, "part.out_proj", draws=False)
    mine, _ = attention(x, x, x)
    mine.sum().backward()
    assert lora.up.grad is not None and lora.up.grad.abs().sum() > 0
    other = nn.MultiheadAttention(8, 2).double()
    other.load_state_dict({n: t for n, t in attention.state_dict().items() if "lora" not in n})
    other.out_proj.weight = nn.Parameter(lora.merged(plain))
    torch.testing.assert_close(mine, other(x, x, x)[0], rtol=1e-12, atol=1e-12)


def test_noise_that_a_weight_cannot_have_is_refused() -> None:
    linear = adapted(LoRA.Config(rank=4, dropout=0.5))
    with pytest.raises(UserError, match=r"the weight of part\.map is read past the map, where 'lora' cannot draw"):
        _ = linear.weight
    assert linear.eval().weight.shape == (7, 12)
