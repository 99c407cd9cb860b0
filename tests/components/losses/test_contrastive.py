"""Every row has to find its own column."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from compose_vlp.components.losses.contrastive import Contrastive
from compose_vlp.values import Number, Similarity


def loss(**settings: Any) -> Contrastive:
    return Contrastive(Contrastive.Config(**settings))


def test_the_papers_sum_is_twice_the_mean_of_two_directions() -> None:
    scores = torch.randn(4, 4)
    both = [Similarity(scores), Similarity(scores.T)]
    own = torch.arange(4)
    expected = F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)
    assert torch.allclose(loss(reduction="sum")(both).value, expected)
    assert torch.allclose(loss()(both).value, expected / 2)


def test_rows_belong_to_columns_further_on_where_these_are_gathered() -> None:
    scores = torch.randn(2, 6)
    expected = F.cross_entropy(scores, torch.tensor([4, 5]))
    assert torch.allclose(loss()([Similarity(scores, own=4)]).value, expected)


def test_soft_targets_are_mixed_in_with_alpha() -> None:
    scores, teacher = torch.randn(3, 5), torch.randn(3, 5)
    target = 0.4 * teacher.softmax(1) + 0.6 * F.one_hot(torch.arange(3), 5)
    expected = -(target * scores.log_softmax(1)).sum(1).mean()
    assert torch.allclose(loss()([Similarity(scores)], soft=[Similarity(teacher)], alpha=0.4).value, expected)
    plain = loss()([Similarity(scores)]).value
    assert torch.allclose(loss()([Similarity(scores)], soft=[Similarity(teacher)], alpha=0.0).value, plain)


def test_no_gradient_reaches_the_teacher() -> None:
    scores, teacher = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    loss()([Similarity(scores)], soft=[Similarity(teacher)], alpha=0.5).value.backward()
    assert scores.grad is not None
    assert teacher.grad is None


def test_label_smoothing_is_torchs() -> None:
    scores = torch.randn(3, 5)
    expected = F.cross_entropy(scores, torch.arange(3), label_smoothing=0.2)
    assert torch.allclose(loss(label_smoothing=0.2)([Similarity(scores)]).value, expected)


def test_lists_of_different_lengths_are_refused() -> None:
    similarity = Similarity(torch.randn(2, 2))
    with pytest.raises(ValueError, match="zip"):
        loss()([similarity, similarity], soft=[similarity])


def test_every_column_of_the_rows_id_is_right_in_equal_shares() -> None:
    scores = torch.randn(3, 6)
    same = Number(torch.tensor([7, 8, 7, -100, 8, 7]))  # the batch's ids, and behind them a queue's
    target = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 1]]).float()
    target = target / target.sum(1, keepdim=True)
    expected = -(target * scores.log_softmax(1)).sum(1).mean()
    assert torch.allclose(loss()([Similarity(scores, queued=3)], same=same).value, expected)


def test_one_direction_alone_needs_no_list() -> None:
    scores = Similarity(torch.randn(3, 3))
    contrastive = loss()
    assert torch.equal(contrastive(scores).value, contrastive([scores]).value)  # type: ignore[arg-type]
    taught = contrastive(scores, soft=scores, alpha=0.5).value  # type: ignore[arg-type]
    assert torch.equal(taught, contrastive([scores], soft=[scores], alpha=0.5).value)
