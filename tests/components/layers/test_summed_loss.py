"""Cross-entropies in chunks of rows: the sums and gradients of all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.components.layers import summed_loss
from compose_vlp.components.layers.summed_loss import IGNORED, Targets, summed
from compose_vlp.values import Logits
from compose_vlp.values.unscored import UnscoredLogits

pytestmark = pytest.mark.usefixtures("small_chunks")

ROWS, CLASSES, WIDTH = 11, 13, 8
"""More rows than chunks are long, and the last chunk is shorter."""


class Head:
    """Features, a table and a bias, with their gradients after a loss."""

    def __init__(self, *, bias: bool = True, dtype: torch.dtype = torch.float64, rows: int = ROWS) -> None:
        self.features = torch.randn(rows, WIDTH, dtype=dtype, requires_grad=True)
        self.weight = torch.randn(CLASSES, WIDTH, dtype=dtype, requires_grad=True)
        self.bias = torch.randn(CLASSES, dtype=dtype, requires_grad=True) if bias else None
        self.at = torch.arange(rows)

    def unscored(self) -> UnscoredLogits:
        return UnscoredLogits(self.features, self.weight, self.bias, None, self.at)

    def scored(self) -> Logits:
        return Logits(F.linear(self.features, self.weight, self.bias), None, self.at)

    def outcome(self, logits: Logits, loss: Callable[[Logits], Tensor]) -> list[Tensor]:
        leaves = [leaf for leaf in (self.features, self.weight, self.bias) if leaf is not None]
        for leaf in leaves:
            leaf.grad = None
        total = loss(logits)
        (0.7 * total).backward()
        return [total.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    def assert_alike(self, loss: Callable[[Logits], Tensor], tolerance: float = 1e-12) -> None:
        chunked, whole = self.outcome(self.unscored(), loss), self.outcome(self.scored(), loss)
        assert len(chunked) == len(whole)
        for a, b in zip(chunked, whole, strict=True):
            assert a.dtype == b.dtype
            assert (a - b).norm() <= tolerance * (b.norm() + 1)


def labels(rows: int = ROWS) -> Tensor:
    chosen = torch.randint(CLASSES, (rows,))
    chosen[4] = IGNORED
    return chosen


@pytest.mark.parametrize(
    ("smoothing", "soft", "weighted", "drop_worst"),
    [*product((0.0, 0.2), ("", "unscored", "scored", "whole"), (False, True), (0.0, 0.4))],
)
def test_all_that_a_loss_may_ask_for(smoothing: float, soft: str, weighted: bool, drop_worst: float) -> None:
    head, teacher, expected = Head(), Head(), labels()
    taught: Any = {
        "": None, "unscored": teacher.unscored(), "scored": teacher.scored(), "whole": Logits(teacher.scored().scores),
    }[soft]  # fmt: skip
    weights = torch.rand(ROWS) if weighted else None
    targets = Targets(expected, smoothing, taught, 0.4, weights)
    head.assert_alike(lambda logits: summed(logits, targets, places=head.at, drop_worst=drop_worst))
    assert teacher.features.grad is None and teacher.weight.grad is None


def test_the_gradient_is_that_of_the_value() -> None:
    head, expected = Head(), labels()
    leaves = (head.features, head.weight, head.bias)

    def total(*given: Any) -> Tensor:
        return summed(UnscoredLogits(*given, None, head.at), Targets(expected, 0.1))

    assert torch.autograd.gradcheck(total, leaves)


@pytest.mark.parametrize("frozen", ["features", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen: str) -> None:
    head, expected = Head(), labels()
    getattr(head, frozen).requires_grad_(False)
    head.assert_alike(lambda logits: summed(logits, Targets(expected)))
    assert getattr(head, frozen).grad is None


def test_a_table_may_be_the_embeddings_own_and_be_used_twice() -> None:
    table, words = torch.randn(CLASSES, WIDTH, dtype=torch.float64, requires_grad=True), torch.arange(ROWS)
    gradients: list[Tensor] = []
    for chunked in (True, False):
        table.grad = None
        features = torch.tanh(F.embedding(words, table))
        logits: Logits = UnscoredLogits(features, table, None, None, words)
        logits = logits if chunked else Logits(logits.scores, None, words)
        (summed(logits, Targets(words)) + summed(logits, Targets(words.flip(0), 0.1))).backward()
        assert table.grad is not None
        gradients.append(table.grad)
    assert (gradients[0] - gradients[1]).norm() <= 1e-12 * gradients[1].norm()


def test_a_loss_may_be_followed_back_twice() -> None:
    head, expected = Head(), labels()
    total = summed(head.unscored(), Targets(expected))
    total.backward(retain_graph=True)
    assert head.weight.grad is not None
    once = head.weight.grad.clone()
    total.backward()
    assert torch.equal(head.weight.grad, 2 * once)


def test_without_gradients_there_are_none() -> None:
    head, expected = Head(), labels()
    with torch.no_grad():
        total = summed(head.unscored(), Targets(expected))
    assert not total.requires_grad
    assert torch.allclose(total, summed(head.scored(), Targets(expected)).detach())


def test_under_autocast_products_are_rounded_and_sums_are_not() -> None:
    head, expected = Head(dtype=torch.float32), labels()
    with torch.autocast("cpu", torch.bfloat16):
        head.assert_alike(lambda logits: summed(logits, Targets(expected, 0.1)), tolerance=1e-2)
        assert summed(head.unscored(), Targets(expected)).dtype == torch.float32
        rounded = Head(dtype=torch.bfloat16).outcome(head.unscored(), lambda x: summed(x, Targets(expected)))
        exact = Targets(expected)
    whole = summed(head.scored(), exact)
    assert 0 < abs(float(rounded[0] - whole.detach())) < 1e-2 * float(whole.detach()), "the products are bf16's"


def test_few_rows_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(rows=3)
    monkeypatch.setattr(summed_loss, "_in_chunks", None)
    head.assert_alike(lambda logits: summed(logits, Targets(torch.tensor([1, 2, IGNORED]))))


def test_scores_are_made_when_they_are_read_and_once() -> None:
    head = Head()
    logits = head.unscored()
    assert "scores" not in vars(logits) and logits.classes == CLASSES
    assert logits.scores is logits.scores
    assert torch.equal(logits.scores, head.scored().scores)


def test_no_more_than_a_chunk_of_scores_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    linear = F.linear
    monkeypatch.setattr(summed_loss.F, "linear", lambda *given: made.append(linear(*given).shape) or linear(*given))
    summed(Head().unscored(), Targets(labels(), soft=Head().unscored(), alpha=0.4), drop_worst=0.3).backward()
    assert set(made) == {(3, CLASSES), (2, CLASSES)}


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_rows_without_numbers_are_covered_by_a_bounded_number_of_chunks(device: str) -> None:
    for count in (summed_loss.CHUNK + 1, 3 * summed_loss.MANY * summed_loss.CHUNK + 5):
        labels = torch.empty(count, dtype=torch.long, device=device)
        chunks = [*summed_loss._Rows(Targets(labels), None, torch.float32).chunks()]
        assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]]
        assert chunks[0].start == 0 and chunks[-1].stop >= count > chunks[-1].start
        longest = max(chunk.stop - chunk.start for chunk in chunks)
        if device == "cpu":
            assert longest == summed_loss.CHUNK
        else:
            assert len(chunks) <= summed_loss.MANY
