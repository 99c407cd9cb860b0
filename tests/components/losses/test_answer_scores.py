"""Soft scores of several answers a row, against the formula written out."""

from __future__ import annotations

import torch

from compose_vlp.components.losses.answer_scores import AnswerScores
from compose_vlp.values import Index, Logits, Number


def test_cross_entropy_of_every_class_is_summed_and_rows_are_averaged() -> None:
    scores = torch.randn(3, 4, dtype=torch.float64)
    labels, owner = torch.tensor([1, 3, 0]), torch.tensor([0, 0, 2])
    weights = torch.tensor([0.3, 1.0, 0.6], dtype=torch.float64)
    soft = torch.zeros(3, 4, dtype=torch.float64)
    soft[0, 1], soft[0, 3], soft[2, 0] = 0.3, 1.0, 0.6
    p = 1 / (1 + (-scores).exp())
    expected = -(soft * p.log() + (1 - soft) * (1 - p).log()).sum() / 3
    actual = AnswerScores(AnswerScores.Config())(Logits(scores), Number(labels), Index(owner), Number(weights))
    assert torch.allclose(actual.value.double(), expected, atol=1e-6)
