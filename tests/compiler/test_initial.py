"""Initial weights depend on seed and path alone, so that what two blueprints share begins alike."""

from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from compose_vlp.api import Blueprint
from compose_vlp.compiler.initial import drawn_by_path
from compose_vlp.compiler.model import build
from tests.models import TINY

Weights = dict[str, Tensor]


@cache
def weights(*words: str, seed: int = 3) -> Weights:
    names = [word for word in words if "=" not in word and word[0] not in "~+"]
    checked = Blueprint.load(*names, overrides=[word for word in words if word not in names]).check()
    return build(checked, "cpu", seed).state_dict()


def unlike(some: Weights, others: Weights) -> list[str]:
    """Names of equal shape in both that hold other numbers."""
    shared = [name for name in some if name in others and some[name].shape == others[name].shape]
    assert len(shared) > 20
    return [name for name in shared if not torch.equal(some[name], others[name])]


@pytest.mark.parametrize(
    "change",
    [
        ("~losses.itm",),
        ("alpha=0",),
        ("+components.extra={use: linear_head, classes: 3}", "+graph.more=extra(v.cls)", "+outputs.more=more"),
        ("components.fusion.depth=1",),
        ("+adapters.low={use: lora, match: fusion.**, rank: 2}",),
        ("components.masker.probability=0.5", "components.hard.floor=0.1"),
        ("components.itm_head.classes=3", "~losses.itm"),
    ],
    ids=lambda change: change[0],
)
def test_what_else_a_model_has_moves_no_draw_of_a_part(change: tuple[str, ...]) -> None:
    assert unlike(weights("tiny/albef", *TINY), weights("tiny/albef", *TINY, *change)) == []


def test_a_hybrid_begins_as_the_paper_that_it_extends() -> None:
    assert unlike(weights("tiny/coca"), weights("tiny/coca", "hybrids/coca_momentum")) == []


def test_layers_that_two_depths_share_begin_alike() -> None:
    """But for the maps whose spread the recipe makes depend on the depth."""
    moved = unlike(
        weights("tiny/albef", *TINY, "components.text.depth=2"), weights("tiny/albef", *TINY, "components.text.depth=1")
    )
    assert moved == []


def test_where_another_device_is_drawn_on_all_generators_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_cpu = weights("tiny/albef", *TINY)
    seeds: list[int] = []
    seed_all = torch.manual_seed
    monkeypatch.setattr(torch, "get_default_device", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (seeds.append(seed), seed_all(seed))[1])
    assert unlike(on_the_cpu, weights.__wrapped__("tiny/albef", *TINY)) == []
    assert len(set(seeds)) > 10, "one for each draw"


def test_another_seed_draws_every_matrix_anew() -> None:
    first, second = weights("tiny/albef", *TINY), weights("tiny/albef", *TINY, seed=4)
    same = [name for name in first if first[name].dim() > 1 and torch.equal(first[name], second[name])]
    assert [name for name in same if len(first[name].unique()) > 2] == []


def test_no_two_parameters_have_the_same_draws() -> None:
    actual = weights("tiny/albef", *TINY)
    drawn = {name: value for name, value in actual.items() if value.dim() > 1 and len(value.unique()) > 2}
    heads = {name: tuple(value.flatten()[:4].tolist()) for name, value in drawn.items() if "teachers" not in name}
    twice = [name for name, head in heads.items() if sum(head == other for other in heads.values()) > 1]
    assert all("embedding" in name or "mlm_head" in name for name in twice), "the shared table alone"


def test_the_generators_stand_where_the_seed_says_whatever_was_built() -> None:
    states = []
    for words in (("tiny/albef",), ("tiny/coca",)):
        build(Blueprint.load(*words).check(), "cpu", 5)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class Part(nn.Module):
    """Draws in every way that components and libraries do."""

    def __init__(self, extra: bool) -> None:
        super().__init__()
        if extra:
            self.before = nn.Linear(3, 5)
        self.linear = nn.Linear(4, 8)
        self.made = nn.Parameter(torch.randn(3, 4) * 0.02)
        self.filled = nn.Parameter(torch.empty(200, 50))
        with torch.no_grad():
            self.filled.uniform_(-1, 1).erfinv_().mul_(0.02).clamp_(-0.04, 0.04)
        table = torch.empty(6, 2)
        table.data.normal_()
        self.copied = nn.Parameter(torch.zeros(6, 2))
        self.copied.data.copy_(table)
        self.given = nn.Parameter(torch.zeros(1))
        self.given.data = torch.rand(7)
        self.register_buffer("queue", nn.functional.normalize(torch.randn(4, 4), dim=1))
        self.halves = nn.ParameterList(torch.randn(4, 2).chunk(2))


def test_every_way_of_drawing_is_followed_to_its_parameter() -> None:
    plain, more = (drawn_by_path("part", partial(Part, extra), 1) for extra in (False, True))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, more.state_dict()[name]), name
    assert not torch.equal(plain.halves[0], plain.halves[1])
    assert not torch.equal(plain.made[0], plain.made[1])


def test_the_distribution_is_the_one_that_the_code_says() -> None:
    drawn, plain = drawn_by_path("part", partial(Part, False), 1).filled, Part(False).filled
    assert drawn.std().item() == pytest.approx(plain.std().item(), rel=0.05)
    assert abs(drawn.mean().item()) < 1e-3
    assert drawn.abs().max() <= 0.04
