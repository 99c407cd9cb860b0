"""Hidden words, with a teacher and without."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from compose_vlp.components.losses.masked_lm import IGNORED, MaskedLm
from compose_vlp.values import Labels, Logits

LOSS = MaskedLm(MaskedLm.Config())


def labels() -> Labels:
    ids = torch.full((3, 4), IGNORED)
    ids[0, 1], ids[0, 3], ids[2, 2] = 5, 2, 0
    return Labels(ids)


def test_mean_over_hidden_words_alone() -> None:
    scores = torch.randn(3, 4, 7)
    found = LOSS(Logits(scores), labels())
    wanted = F.cross_entropy(scores.flatten(0, 1), labels().ids.flatten(), ignore_index=IGNORED)
    assert torch.allclose(found.value, wanted)
    assert found.count == 3


def test_teacher_is_followed_by_alpha() -> None:
    scores, teacher = torch.randn(2, 3, 4, 7)
    found = LOSS(Logits(scores), labels(), Logits(teacher), 0.4)
    hidden = labels().ids != IGNORED
    soft = -(teacher.softmax(-1) * scores.log_softmax(-1)).sum(-1)[hidden].mean()
    hard = LOSS(Logits(scores), labels()).value
    assert torch.allclose(found.value, 0.6 * hard + 0.4 * soft)


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
    found = LOSS(Logits(scores), nothing)
    found.value.backward()
    assert found.value == 0
    assert scores.grad is not None
    assert not scores.grad.any()
