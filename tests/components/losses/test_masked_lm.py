"""Hidden words, with a teacher and without."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compose_vlp.components.layers.summed_loss import IGNORED
from compose_vlp.components.losses.masked_lm import MaskedLm
from compose_vlp.values import Labels, Logits

LOSS = MaskedLm(MaskedLm.Config())


def labels() -> Labels:
    ids = torch.full((3, 4), IGNORED)
    ids[0, 1], ids[0, 3], ids[2, 2] = 5, 2, 0
    return Labels(ids)


def test_mean_over_hidden_words_alone() -> None:
    scores = torch.randn(3, 4, 7)
    actual = LOSS(Logits(scores), labels())
    expected = F.cross_entropy(scores.flatten(0, 1), labels().ids.flatten(), ignore_index=IGNORED)
    assert torch.allclose(actual.value, expected)
    assert actual.count == 3


def test_teacher_is_followed_by_alpha() -> None:
    scores, teacher = torch.randn(2, 3, 4, 7)
    actual = LOSS(Logits(scores), labels(), Logits(teacher), 0.4)
    hidden = labels().ids != IGNORED
    soft = -(teacher.softmax(-1) * scores.log_softmax(-1)).sum(-1)[hidden].mean()
    hard = LOSS(Logits(scores), labels()).value
    assert torch.allclose(actual.value, 0.6 * hard + 0.4 * soft)


def test_scores_of_chosen_places_give_the_same() -> None:
    scores, teacher = torch.randn(2, 3, 4, 7)
    at = LOSS.selects(labels())
    assert at.tolist() == [1, 3, 10]
    whole = LOSS(Logits(scores), labels(), Logits(teacher), 0.4)
    chosen = [Logits(x.flatten(0, 1)[at], at=at) for x in (scores, teacher)]
    assert torch.allclose(LOSS(chosen[0], labels(), chosen[1], 0.4).value, whole.value)
    assert torch.allclose(LOSS(chosen[0], labels(), Logits(teacher), 0.4).value, whole.value)


def test_no_gradient_reaches_the_teacher() -> None:
    scores, teacher = torch.randn(2, 3, 4, 7).requires_grad_().unbind()
    scores, teacher = scores.detach().requires_grad_(), teacher.detach().requires_grad_()
    LOSS(Logits(scores), labels(), Logits(teacher), 0.4).value.backward()
    assert scores.grad is not None
    assert teacher.grad is None


def test_batch_without_a_hidden_word_has_a_loss_of_nothing() -> None:
    scores = torch.randn(3, 4, 7, requires_grad=True)
    nothing = Labels(torch.full((3, 4), IGNORED))
    actual = LOSS(Logits(scores), nothing)
    actual.value.backward()
    assert actual.value == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def divergence(scores: torch.Tensor, words: torch.Tensor, share: float) -> torch.Tensor:
    """The sum over words of target x (log target - log probability), written out (unilm, beit3/utils.py)."""
    target = torch.full_like(scores, share / (scores.shape[1] - 1))
    target[torch.arange(len(words)), words] = 1 - share
    return (torch.special.xlogy(target, target) - target * scores.log_softmax(1)).sum(1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("worst", [0.0, 0.2, 0.5, 0.99])
def test_captions_are_learnt_by_the_divergence_without_the_worst_words(share: float, worst: float) -> None:
    scores = torch.randn(3, 9, 23, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(23, (3, 9)).masked_fill(torch.rand(3, 9) < 0.4, IGNORED)
    hidden = ids != IGNORED
    loss = MaskedLm(MaskedLm.Config(label_smoothing=share))
    actual = loss(Logits(scores), Labels(ids), drop_worst=worst)
    terms = divergence(scores[hidden], ids[hidden], share).sort().values
    kept = terms[: max(int(len(terms) * (1 - worst)), 1)]
    assert torch.allclose(actual.value, kept.mean(), rtol=1e-12)
    assert actual.count == len(kept)
    (slope,) = torch.autograd.grad(actual.value, scores)
    (expected,) = torch.autograd.grad(kept.mean(), scores)
    assert torch.allclose(slope, expected, atol=1e-14)
    assert int((slope.abs().sum(-1) > 0).sum()) == len(kept), "a word that is left out teaches nothing"


def test_a_distribution_that_is_the_target_has_no_loss() -> None:
    target = torch.full((1, 1, 5), 0.1 / 4, dtype=torch.float64)
    target[0, 0, 2] = 0.9
    loss = MaskedLm(MaskedLm.Config(label_smoothing=0.1))
    assert abs(float(loss(Logits(target.log()), Labels(torch.tensor([[2]]))).value)) < 1e-15


def test_the_worst_are_worst_with_the_teachers_part() -> None:
    scores, teacher = torch.randn(2, 3, 4, 7, dtype=torch.float64)
    hidden = labels().ids != IGNORED
    hard = divergence(scores[hidden], labels().ids[hidden], 0.0)
    soft = -(teacher.softmax(-1) * scores.log_softmax(-1)).sum(-1)[hidden]
    expected = (0.6 * hard + 0.4 * soft).sort().values[:2].mean()
    assert torch.allclose(LOSS(Logits(scores), labels(), Logits(teacher), 0.4, 0.2).value, expected)


def test_nothing_hidden_is_nothing_left_out() -> None:
    scores = torch.randn(3, 4, 7, requires_grad=True)
    actual = LOSS(Logits(scores), Labels(torch.full((3, 4), IGNORED)), drop_worst=0.2)
    assert actual.value == 0 and actual.count == 0
