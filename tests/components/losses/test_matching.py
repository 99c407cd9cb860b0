"""Right and wrong pairs weigh the same."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from compose_vlp.components.losses.matching import Matching
from compose_vlp.values import Logits


def test_mean_over_right_and_wrong_pairs() -> None:
    right, first_wrong, second_wrong = torch.randn(3, 5, 2)
    actual = Matching(Matching.Config())(Logits(right), [Logits(first_wrong), Logits(second_wrong)])
    yes = -right.log_softmax(1)[:, 1]
    no = -torch.cat((first_wrong, second_wrong)).log_softmax(1)[:, 0]
    assert torch.allclose(actual.value, (yes.sum() + no.sum()) / 15)


def test_scores_of_half_precision_are_compared_in_full() -> None:
    right, wrong = torch.randn(2, 5, 2).bfloat16()
    actual = Matching(Matching.Config())(Logits(right), [Logits(wrong)])
    assert actual.value.dtype == torch.float32
    labels = torch.tensor([1] * 5 + [0] * 5)
    assert torch.equal(actual.value, F.cross_entropy(torch.cat((right, wrong)).float(), labels))


def test_one_kind_of_wrong_pairs_needs_no_list() -> None:
    right, wrong = (Logits(scores) for scores in torch.randn(2, 5, 2))
    loss = Matching(Matching.Config())
    assert torch.equal(loss(right, wrong).value, loss(right, [wrong]).value)  # type: ignore[arg-type]
