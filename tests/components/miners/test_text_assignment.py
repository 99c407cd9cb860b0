"""A text's own picture stands beside one that looks like it, or two that look like it do; the answer says which."""

from __future__ import annotations

import pytest
import torch

from compose_vlp.components.miners.text_assignment import Assignment, TextAssignment
from compose_vlp.errors import UserError
from compose_vlp.values import Number, Similarity


def drawn(similarity: Similarity, same: Number | None = None, seed: int = 0) -> Assignment:
    torch.manual_seed(seed)
    return TextAssignment(TextAssignment.Config())(similarity, same)


def many(scores: torch.Tensor, times: int = 300) -> list[Assignment]:
    return [drawn(Similarity(scores), seed=seed) for seed in range(times)]


def test_the_answer_says_where_the_own_picture_stands() -> None:
    own = torch.arange(6)
    for actual in many(torch.randn(6, 6), 50):
        left, right, answer = actual.left.rows, actual.right.rows, actual.answer.values
        assert torch.equal(answer, torch.where(left == own, 0, torch.where(right == own, 1, 2)))
        assert (left != right).all(), "two pictures, never one twice"


def test_each_answer_is_drawn_a_third_of_the_time() -> None:
    answers = torch.cat([actual.answer.values for actual in many(torch.zeros(5, 5))])
    assert torch.allclose(torch.bincount(answers, minlength=3) / len(answers), torch.full((3,), 1 / 3), atol=0.04)


def test_others_are_drawn_in_proportion_to_their_softmax_and_two_without_replacement() -> None:
    scores = torch.tensor([[9.0, 2.0, 1.0, 0.0]] * 4)
    weights = scores[0, 1:].softmax(0)
    single, first, second = torch.zeros(4), torch.zeros(4), torch.zeros(4)
    for actual in many(scores, 3000):
        left, right, answer = (int(value[0]) for value in (actual.left.rows, actual.right.rows, actual.answer.values))
        if answer == 2:
            first[left] += 1
            second[right] += 1
        else:
            single[right if answer == 0 else left] += 1
    assert torch.allclose(single[1:] / single.sum(), weights, atol=0.04)
    assert torch.allclose(first[1:] / first.sum(), weights, atol=0.05)
    left_over = sum(weights[i] * weights / (1 - weights[i]) * (torch.arange(3) != i) for i in range(3))
    assert torch.allclose(second[1:] / second.sum(), left_over, atol=0.05)


def test_a_picture_of_the_same_id_is_no_other() -> None:
    same = Number(torch.tensor([7, 7, 8, 9]))
    for seed in range(30):
        actual = drawn(Similarity(torch.zeros(4, 4)), same, seed)
        beside = torch.where(actual.answer.values == 0, actual.right.rows, actual.left.rows)
        assert (beside[:2] >= 2).all(), "the first two are one picture"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_degenerate_similarity_draws_any_two_others(value: float) -> None:
    scores = torch.full((4, 4), value)
    scores[:, 0] = 1e30  # all weight on one column
    actual = drawn(Similarity(scores))
    assert (actual.left.rows != actual.right.rows).all()


def test_gathered_columns_are_candidates_and_the_own_one_is_known() -> None:
    actual = drawn(Similarity(torch.zeros(2, 6), own=4), seed=3)
    own = torch.tensor([4, 5])
    for row in range(2):
        pair = {int(actual.left.rows[row]), int(actual.right.rows[row])}
        assert (int(own[row]) in pair) is (int(actual.answer.values[row]) != 2)


def test_two_others_are_needed() -> None:
    with pytest.raises(UserError, match="a batch of 2 is too small"):
        drawn(Similarity(torch.zeros(2, 2)))
    with pytest.raises(UserError, match="fewer than 2 of another id"):
        drawn(Similarity(torch.zeros(4, 4)), Number(torch.tensor([1, 1, 1, 2])))
