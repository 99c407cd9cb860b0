"""Classes, with a teacher and without."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from compose_vlp.components.losses.cross_entropy import CrossEntropy
from compose_vlp.values import Logits, Number

LABELS = torch.tensor([0, 2, 1, 1])


def test_mean_over_rows() -> None:
    scores = torch.randn(4, 3)
    actual = CrossEntropy(CrossEntropy.Config())(Logits(scores), Number(LABELS))
    assert torch.allclose(actual.value, F.cross_entropy(scores, LABELS))


def test_smoothing_spreads_a_share_of_the_target() -> None:
    scores = torch.randn(4, 3)
    actual = CrossEntropy(CrossEntropy.Config(label_smoothing=0.3))(Logits(scores), Number(LABELS))
    target = 0.7 * F.one_hot(LABELS, 3) + 0.1
    assert torch.allclose(actual.value, -(target * scores.log_softmax(1)).sum(1).mean())


def test_teacher_is_followed_by_alpha() -> None:
    scores, teacher = torch.randn(2, 4, 3)
    actual = CrossEntropy(CrossEntropy.Config())(Logits(scores), Number(LABELS), Logits(teacher), 0.25)
    target = 0.75 * F.one_hot(LABELS, 3) + 0.25 * teacher.softmax(1)
    assert torch.allclose(actual.value, -(target * scores.log_softmax(1)).sum(1).mean())
