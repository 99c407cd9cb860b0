"""Every pair of a picture and a text is a question of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compose_vlp.components.losses.sigmoid import Sigmoid
from compose_vlp.values import Number, Similarity


def loss(bias: float = -10.0) -> Sigmoid:
    sigmoid = Sigmoid(Sigmoid.Config(bias=bias)).double()
    nn.init.constant_(sigmoid.bias, bias)  # in float64
    return sigmoid


@torch.no_grad()
def value(bias: float, *scores: Similarity, same: Number | None = None) -> float:
    return float(loss(bias)(list(scores), same=same).value)


def paper(scores: np.ndarray, bias: float, labels: np.ndarray) -> float:
    """Algorithm 1 of Zhai et al. 2023, `labels` 1 and -1."""
    logits = scores + bias
    return float(np.log1p(np.exp(-labels * logits)).sum() / len(logits))


@pytest.mark.parametrize("bias", [-10.0, 0.0, 3.5])
def test_the_loss_is_the_papers(bias: float) -> None:
    scores = torch.randn(5, 5, dtype=torch.float64) * 4
    expected = paper(scores.numpy(), bias, 2 * np.eye(5) - np.ones((5, 5)))
    assert value(bias, Similarity(scores)) == pytest.approx(expected, rel=1e-12)
    both = value(bias, Similarity(scores), Similarity(scores.T))
    assert both == pytest.approx(expected, rel=1e-12), "a sum over all pairs has no direction"


def test_rows_of_all_processes_and_a_queue_are_further_wrong_columns() -> None:
    scores = torch.randn(2, 7, dtype=torch.float64)
    labels = -np.ones((2, 7))
    labels[0, 4] = labels[1, 5] = 1
    actual = value(-1.0, Similarity(scores, own=4))
    assert actual == pytest.approx(paper(scores.numpy(), -1.0, labels), rel=1e-12)


def test_columns_of_the_rows_own_id_belong_to_it() -> None:
    scores = torch.randn(3, 4, dtype=torch.float64)
    labels = -np.ones((3, 4))
    labels[0, 0] = labels[0, 2] = labels[1, 1] = labels[2, 0] = labels[2, 2] = 1
    actual = value(-1.0, Similarity(scores), same=Number(torch.tensor([7, 8, 7, 9])))
    assert actual == pytest.approx(paper(scores.numpy(), -1.0, labels), rel=1e-12)


def test_the_bias_has_the_gradient_of_its_finite_difference() -> None:
    scores, step = torch.randn(4, 4, dtype=torch.float64), 1e-5
    sigmoid = loss(-2.0)
    sigmoid([Similarity(scores)]).value.backward()
    around = [value(-2.0 + s, Similarity(scores)) for s in (step, -step)]
    assert sigmoid.bias.grad is not None
    assert float(sigmoid.bias.grad) == pytest.approx((around[0] - around[1]) / (2 * step), rel=1e-6)
