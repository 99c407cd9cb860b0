"""Retrieval recall and caption scores on cases that can be checked by hand."""

import pytest
import torch

from compose_vlp.evaluation.captioning import caption_scores
from compose_vlp.evaluation.retrieval import recall


def test_recall_counts_any_text_of_the_same_picture() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]])
    found = recall(scores, ["a", "b"], ["a", "a", "b"])
    assert found.image_to_text == {1: 0.5, 5: 1.0, 10: 1.0}  # b's text comes second for b
    assert found.text_to_image[1] == pytest.approx(2 / 3)  # the first text prefers b
    assert found.chance == pytest.approx(0.5)


def test_a_constant_score_has_no_recall() -> None:
    found = recall(torch.ones(20, 20), range(20), range(20))
    assert found.image_to_text == {1: 0.0, 5: 0.0, 10: 0.0} == found.text_to_image


def test_perfect_captions_score_highest_and_one_for_all_is_seen() -> None:
    texts = ["a red circle above a blue square", "a small green star", "two yellow triangles in a row today"]
    perfect = caption_scores(texts, [[t] for t in texts])
    assert perfect.bleu == pytest.approx((1.0,) * 4, abs=1e-6) and perfect.cider == pytest.approx(10.0, abs=0.1)
    assert perfect.distinct == 1.0
    same = caption_scores([texts[0]] * 3, [[t] for t in texts])
    assert same.distinct == pytest.approx(1 / 3) and same.cider < 4


def test_case_and_punctuation_do_not_count() -> None:
    found = caption_scores(["A cat, sleeping on the mat."], [["a cat sleeping on the mat"]])
    assert found.bleu[3] == pytest.approx(1.0)
