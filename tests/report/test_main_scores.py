"""One score stands for a task: the one that the field reports, where it was measured."""

from __future__ import annotations

import pytest

from compose_vlp.evaluation.results import SCORES
from compose_vlp.report.main_scores import MAIN, main_scores


@pytest.mark.parametrize(
    ("measured", "main"),
    [
        (["captioning.bleu_1", "captioning.bleu_4", "captioning.cider"], ["captioning.cider"]),
        (["captioning.bleu_1", "captioning.bleu_4"], ["captioning.bleu_1"]),
        (
            ["retrieval.image_to_text_recall_at_1", "captioning.bleu_1", "retrieval.mean_recall"],
            ["retrieval.mean_recall", "captioning.bleu_1"],
        ),
        (
            ["captioning.bleu_1 on a", "captioning.cider on a", "captioning.bleu_1 on b", "captioning.cider on b"],
            ["captioning.cider on a"],
        ),
        (["zero_shot.accuracy_top_1", "zero_shot.accuracy_top_5"], ["zero_shot.accuracy_top_1"]),
        ([], []),
    ],
)
def test_one_score_is_chosen_of_each_task(measured: list[str], main: list[str]) -> None:
    assert main_scores(measured) == main


def test_what_stands_for_a_task_is_one_of_its_scores() -> None:
    assert all(score in SCORES[task] for task, score in MAIN.items())
