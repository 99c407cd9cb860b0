"""A mixture of experts is its formulas, position by position; its losses count no padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from compose_vlp.auxiliary import auxiliary, with_terms
from compose_vlp.components.encoders.multiway_transformer import MultiwayTransformer
from compose_vlp.components.encoders.vit import VisionTransformer
from compose_vlp.components.ffns.moe import MoE
from compose_vlp.slots import Place
from compose_vlp.values import Image, Part, Sequence

WIDTH = 12


def moe(**settings: Any) -> MoE:
    return MoE(MoE.Config(**settings), Place(WIDTH))


def plainly(part: MoE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Results, each position's choices `[positions, experts]`, and probabilities, one position at a time."""
    results, choices, probabilities = [], [], []
    for position in x.flatten(0, -2):
        scores = part.router.weight @ position
        likely = torch.exp(scores) / torch.exp(scores).sum()
        best = sorted(range(len(part.experts)), key=lambda i: -float(likely[i]))[: part.top]
        share = sum(likely[i] for i in best) if part.top > 1 else 1.0
        results.append(sum(likely[i] / share * part.experts[i](position[None])[0] for i in best))
        choices.append(torch.tensor([float(i in best) for i in range(len(part.experts))]))
        probabilities.append(likely)
    return torch.stack(results).view_as(x), torch.stack(choices), torch.stack(probabilities)


@pytest.mark.parametrize("top", [1, 2, 4])
@pytest.mark.parametrize("inner", ["mlp", "swiglu"])
def test_each_position_is_the_weighted_sum_of_its_likeliest_experts(top: int, inner: str) -> None:
    part = moe(experts=4, top=top, inner=inner)
    x = torch.randn(3, 5, WIDTH, requires_grad=True)
    expected, _, _ = plainly(part, x)
    torch.testing.assert_close(part(x), expected)
    ours = torch.autograd.grad(part(x).square().sum(), (x, *part.parameters()))
    references = torch.autograd.grad(expected.square().sum(), (x, *part.parameters()), allow_unused=True)
    for gradient, reference in zip(ours, references, strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if reference is None else reference)
    assert float(ours[1].norm()) > 0, "the router learns from the results, of one expert too"


def test_its_losses_are_those_of_the_papers() -> None:
    part = moe(experts=4, top=2)
    x = torch.randn(3, 5, WIDTH)
    _, choices, probabilities = plainly(part, x)
    _, terms = with_terms(part, x)
    balance = auxiliary(part, "moe", "balance", [terms]).value
    torch.testing.assert_close(balance, 4 * (choices.mean(0) / 2 * probabilities.mean(0)).sum())
    z = torch.log(torch.exp(x.flatten(0, 1) @ part.router.weight.T).sum(-1))
    torch.testing.assert_close(auxiliary(part, "moe", "router_z", [terms]).value, (z**2).mean())
    with torch.no_grad():
        part.router.weight.zero_()
    torch.testing.assert_close(
        auxiliary(part, "moe", "balance", [with_terms(part, x)[1]]).value, torch.tensor(1.0), msg="equal experts"
    )


class Tower(torch.nn.Module):
    """A tower whose result knows what of it is padding."""

    def __init__(self, part: MoE) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Sequence) -> Sequence:
        return x.with_features(self.part(x.features))


def test_padding_counts_in_no_loss_and_takes_no_ones_place() -> None:
    tower = Tower(moe(experts=4))
    long, short = torch.randn(1, 6, WIDTH), torch.randn(1, 4, WIDTH)
    padded = torch.cat((long, torch.cat((short, torch.full((1, 2, WIDTH), 1e3)), 1)))
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    together, terms = with_terms(tower, Sequence(padded, (Part("language", 0, 6),), valid))
    apart = [with_terms(tower, Sequence(x, (Part("language", 0, x.shape[1]),))) for x in (long, short)]
    torch.testing.assert_close(together.features[0:1], apart[0][0].features)
    torch.testing.assert_close(together.features[1:2, :4], apart[1][0].features)
    for name in ("balance", "router_z"):
        alone = auxiliary(tower, "moe", name, [own_terms for _, own_terms in apart])
        torch.testing.assert_close(auxiliary(tower, "moe", name, [terms]).value, alone.value)


def test_a_row_depends_on_its_own_row_alone() -> None:
    part = moe(experts=3)
    x = torch.randn(4, 5, WIDTH)
    other = torch.cat((x[:1], torch.full_like(x[1:], 1e4)))
    torch.testing.assert_close(part(other)[:1], part(x)[:1])
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(part(given)[0].sum(), given)
    assert not gradient[1:].any() and gradient[0].any()


def test_a_layer_counts_once_and_a_tower_is_the_sum_of_its_layers() -> None:
    config = VisionTransformer.Config(width=WIDTH, heads=2, depth=2, patch=4, size=8, ffn="moe")
    tower = VisionTransformer(config)
    _, terms = with_terms(tower, Image(torch.randn(2, 3, 8, 8)))
    assert list(terms) == ["layers.0.ffn.branch", "layers.1.ffn.branch"]
    each = [auxiliary(tower, "moe", "balance", [{path: of}]).value for path, of in terms.items()]
    torch.testing.assert_close(auxiliary(tower, "moe", "balance", [terms]).value, sum(each))


def test_experts_of_modalities_see_their_own_padding() -> None:
    """The words of a pair are padded, and stand behind the picture."""
    config = MultiwayTransformer.Config(width=WIDTH, heads=2, depth=1, ffn={"use": "moe", "experts": 3})
    tower = MultiwayTransformer(config)
    parts = (Part("vision", 0, 3), Part("language", 3, 4))
    valid = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    x = Sequence(torch.randn(2, 7, WIDTH), parts, valid)
    _, terms = with_terms(tower, x)
    counts = {path: of["share"][1].tolist() for path, of in terms.items()}
    assert counts == {"layers.0.experts.vision.ffn": [3, 3], "layers.0.experts.language.ffn": [4, 1]}
    spoilt = x.with_features(x.features.masked_fill(~valid[..., None], 50.0))
    again = auxiliary(tower, "moe", "balance", [with_terms(tower, spoilt)[1]]).value
    torch.testing.assert_close(again, auxiliary(tower, "moe", "balance", [terms]).value)
    _, pictures = with_terms(tower, Sequence(x.features[:, :3], parts[:1]))
    assert list(pictures) == ["layers.0.experts.vision.ffn"], "what is not called adds nothing"


def test_it_is_the_same_at_every_call_and_in_bf16_routes_in_full() -> None:
    part = moe(experts=4)
    x = torch.randn(2, 5, WIDTH)
    assert torch.equal(part(x), part(x))
    single = part.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, terms = with_terms(single, x.float())
    assert half.dtype == torch.bfloat16
    (of,) = terms.values()
    assert of["probability"][0].dtype == torch.float32


def test_an_expert_without_positions_has_a_gradient_of_zero() -> None:
    part = moe(experts=8, top=1)
    part(torch.randn(1, 1, WIDTH)).sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": 2, "top": 3}, "`top` 3 is more than there are experts, 2"),
        ({"inner": "moe"}, "`inner: moe` has auxiliary losses of its own"),
        ({"balance": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MoE.Config(**settings)
