"""Codes are the nearest of a table, which follows what chose it: against a second writing, position by position."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from compose_vlp.components.codebooks.codebook import ROUNDS, Codebook, kmeans
from compose_vlp.components.losses.cosine import Cosine
from compose_vlp.components.losses.penalty import Penalty
from compose_vlp.values import Embedding, Number, Part, Sequence
from tests.support import spawn

WIDTH, CODES, CODE_WIDTH = 6, 5, 3


def made(size: int = CODES, *, started: bool = True, decay: float = 0.9) -> Codebook:
    torch.manual_seed(4)
    codebook = Codebook(Codebook.Config(size=size, code_width=CODE_WIDTH, decay=decay, width=WIDTH))
    codebook.started.fill_(started)
    return codebook


def patches(rows: int = 4, tokens: int = 9) -> Sequence:
    features = torch.randn(rows, tokens, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return Sequence(features, (Part("vision", 0, tokens),))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def by_hand(codebook: Codebook, x: Sequence) -> tuple[list[list[int]], list[list[list[float]]], list[float]]:
    """Codes, vectors and commitments with nothing but loops."""
    state = {name: tensor.tolist() for name, tensor in codebook.state_dict().items()}

    def mapped(vector: list[float], layer: int) -> list[float]:
        weight, bias = state[f"projection.{layer}.weight"], state[f"projection.{layer}.bias"]
        return [b + sum(w * v for w, v in zip(row, vector, strict=True)) for row, b in zip(weight, bias, strict=True)]

    codes, vectors, commitments = [], [], []
    for row in x.features.tolist():
        chosen, own, far = [], [], 0.0
        for position in row:
            vector = unit(mapped([math.tanh(v) for v in mapped(position, 0)], 2))
            distances = [sum((a - b) ** 2 for a, b in zip(vector, code, strict=True)) for code in state["codes"]]
            chosen.append(min(range(len(distances)), key=distances.__getitem__))
            own.append(vector)
            far += distances[chosen[-1]] / CODE_WIDTH
        codes.append(chosen)
        vectors.append(own)
        commitments.append(far / len(row))
    return codes, vectors, commitments


def test_codes_are_the_nearest_and_commitments_the_distances() -> None:
    codebook = made().eval()
    given = codebook(patches())
    codes, _, commitments = by_hand(codebook, patches())
    assert given.codes.ids.tolist() == codes
    assert len({code for row in codes for code in row}) > 2
    torch.testing.assert_close(given.commitment.values, torch.tensor(commitments))
    torch.testing.assert_close(given.quantised.features, codebook.codes[given.codes.ids])
    assert given.quantised.parts == patches().parts


def test_codes_move_towards_the_means_of_what_chose_them_and_the_others_stay() -> None:
    codebook = made(12)
    codes, vectors, _ = by_hand(codebook, patches())
    before = codebook.codes.clone()
    codebook(patches())
    assert torch.equal(codebook.codes, before), "nothing moves before the step is done"
    codebook.commit()
    flat = [pair for pairs in zip(codes, vectors, strict=True) for pair in zip(*pairs, strict=True)]
    alone = set(range(12)) - {code for code, _ in flat}
    assert alone, "some code was chosen by nobody"
    for number, old in enumerate(before.tolist()):
        mine = [vector for code, vector in flat if code == number]
        mean = unit([sum(v) for v in zip(*mine, strict=True)]) if mine else old
        expected = unit([0.9 * a + 0.1 * b for a, b in zip(old, mean, strict=True)])
        torch.testing.assert_close(codebook.codes[number], torch.tensor(expected))
    torch.testing.assert_close(codebook.codes[sorted(alone)], before[sorted(alone)])


def test_two_calls_of_a_step_count_as_one_on_all_their_rows() -> None:
    twice, once = made(), made()
    x = patches()
    for rows in (slice(0, 1), slice(1, 4)):
        twice(Sequence(x.features[rows], x.parts))
    once(x)
    twice.commit()
    once.commit()
    torch.testing.assert_close(twice.codes, once.codes)


def test_gradients_go_through_codes_and_pull_positions_towards_them() -> None:
    codebook = made()
    x = patches()
    x.features.requires_grad_()
    given = codebook(x)
    weight = torch.randn_like(given.quantised.features)
    through = torch.autograd.grad((given.quantised.features * weight).sum(), x.features, retain_graph=True)[0]
    projected = torch.nn.functional.normalize(codebook.projection(x.features), dim=-1)
    plain = torch.autograd.grad((projected * weight).sum(), x.features, retain_graph=True)[0]
    torch.testing.assert_close(through, plain)
    pulled = torch.autograd.grad(given.commitment.values.mean(), x.features, retain_graph=True)[0]
    distance = (projected - codebook.codes[given.codes.ids]).square().mean()
    torch.testing.assert_close(pulled, torch.autograd.grad(distance, x.features)[0])


def test_the_first_batch_of_training_makes_the_codes() -> None:
    codebook = made(started=False)
    random = codebook.codes.clone()
    given = codebook(patches())
    projected = torch.nn.functional.normalize(codebook.projection(patches().features), dim=-1).flatten(0, 1).detach()
    centres = kmeans(projected, CODES)
    assert given.codes.ids.flatten().tolist() == (projected @ centres.T).argmax(1).tolist()
    assert torch.equal(codebook.codes, random)
    assert not codebook.started
    codebook.commit()
    assert codebook.started
    follower = made()
    follower.codes.copy_(centres)
    follower(patches())
    follower.commit()
    torch.testing.assert_close(codebook.codes, follower.codes)


def test_centres_are_those_of_plain_loops() -> None:
    samples = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:6].tolist()
    centres = [samples[i].tolist() for i in order]
    for _ in range(ROUNDS):
        groups: dict[int, list[list[float]]] = {}
        for sample in samples.tolist():
            cosines = [sum(a * b for a, b in zip(sample, centre, strict=True)) for centre in centres]
            groups.setdefault(max(range(6), key=cosines.__getitem__), []).append(sample)
        centres = [
            unit([sum(v) for v in zip(*groups[i], strict=True)]) if i in groups else c for i, c in enumerate(centres)
        ]
    torch.testing.assert_close(kmeans(samples, 6), torch.tensor(centres))


def test_fewer_positions_than_codes_still_make_centres() -> None:
    centres = kmeans(torch.nn.functional.normalize(torch.randn(4, 3), dim=1), 9)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(9))


def frozen(codebook: Codebook) -> Codebook:
    return codebook.requires_grad_(False)


@pytest.mark.parametrize("still", [Codebook.eval, frozen])
def test_nothing_moves_where_it_is_frozen_or_evaluated(still: Any) -> None:
    codebook = still(made(started=False))
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    codebook(patches())
    codebook.commit()
    assert all(torch.equal(tensor, before[name]) for name, tensor in codebook.state_dict().items())


def test_a_step_that_is_not_done_leaves_the_first_batch_to_the_next() -> None:
    codebook = made(started=False)
    first = codebook(patches()).codes.ids
    assert torch.equal(codebook(patches()).codes.ids, first)


def test_codes_are_found_in_float32_under_autocast() -> None:
    codebook = made().float()
    x = patches()
    x = x.with_features(x.features.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = codebook(x)
    assert rounded.quantised.features.dtype == torch.float32
    assert torch.equal(rounded.commitment.values, codebook(x).commitment.values)


def of_two(rank: int) -> dict[str, list[float]]:
    torch.set_default_dtype(torch.float64)
    codebook = made(started=False)
    x = patches()
    for _ in range(2):
        codebook(Sequence(x.features[2 * rank : 2 * rank + 2], x.parts))
        codebook.commit()
    return {name: tensor.tolist() for name, tensor in codebook.state_dict().items()}


def test_two_processes_move_codes_as_one_does_by_the_whole_batch() -> None:
    alone = made(started=False)
    for _ in range(2):
        alone(patches())
        alone.commit()
    first, second = spawn(of_two)
    assert first == second
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(torch.tensor(first[name]).to(tensor), tensor)


# --- losses


def angles(x: Tensor, y: Tensor) -> float:
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    return sum(1 - sum(a * b for a, b in zip(unit(u), unit(v), strict=True)) for u, v in pairs)


def test_the_cosine_loss_is_the_mean_of_one_minus_cosine_and_spares_the_target() -> None:
    x, y = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    parts = (Part("vision", 0, 3),)
    loss = Cosine(Cosine.Config())(Sequence(x, parts), Sequence(y, parts))
    torch.testing.assert_close(loss.value.item(), angles(x.flatten(0, 1), y.flatten(0, 1)) / 6)
    loss.value.backward()
    assert x.grad is not None
    assert y.grad is None
    vectors = Cosine(Cosine.Config())(Embedding(x[:, 0]), Embedding(y[:, 0]))
    torch.testing.assert_close(vectors.value.item(), angles(x[:, 0], y[:, 0]) / 2)


def test_the_cosine_loss_leaves_padding_out() -> None:
    x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    valid = torch.tensor([[True, True, True], [True, False, False]])
    parts = (Part("vision", 0, 3),)
    loss = Cosine(Cosine.Config())(Sequence(x, parts, valid), Sequence(y, parts))
    expected = (angles(x[0], y[0]) / 3 + angles(x[1, :1], y[1, :1])) / 2
    torch.testing.assert_close(loss.value.item(), expected)


def test_a_penalty_is_the_mean_of_a_number() -> None:
    assert Penalty(Penalty.Config())(Number(torch.tensor([1.0, 2.0, 6.0]))).value == 3
