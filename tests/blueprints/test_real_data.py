"""ALBEF's and BLIP's tasks on pictures that were not made for them: a few steps on NLVR and on easy-VQA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.evaluation.answering import evaluate_answering
from compose_vlp.evaluation.classification import evaluate_classification
from compose_vlp.run import Run
from compose_vlp.runtime.sources import declared_source
from compose_vlp.runtime.training.trainer import TrainOptions

ANSWERS = "circle green red gray yes teal black rectangle yellow triangle brown blue no".split()  # noqa: SIM905
SMALL = ("inputs.image.size=16", "components.bert.vocab_size=160", "stages.finetune.batch=8")
SHORT = ("stages.finetune.length=2 steps", "optimizer.lr=1e-3")


def trained(model: str, task: str, folder: Path, *changes: str) -> Run:
    blueprint = Blueprint.load(f"tiny/{model}", task, overrides=(*changes, *SMALL, *SHORT))
    return blueprint.train(out=folder / "run", options=TrainOptions(device="cpu", workers=0), track=False)


def test_true_and_false_sentences_of_nlvr_are_learnt_as_entailment(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    run = trained(
        "albef",
        "tasks/entailment",
        tmp_path,
        f"data.statements.path={real_data('nlvr') / 'val.jsonl'}",
        "inputs.statement.from=sentence",
        "inputs.relation.from=label",
        "inputs.relation.classes=['false', 'true']",
        "components.judge.classes=2",
    )
    actual = evaluate_classification(run.asker, declared_source(run.blueprint, "statements"), 990)
    assert actual.outputs["relation_of"].commonest == pytest.approx(556 / 990)


def test_questions_of_easy_vqa_are_learnt_as_a_choice(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    run = trained(
        "albef",
        "tasks/vqa_classify",
        tmp_path,
        f"data.questions.path={real_data('easy_vqa') / 'train.jsonl'}",
        f"inputs.answer.classes={ANSWERS}",
        "components.judge.classes=13",
    )
    actual = evaluate_classification(run.asker, declared_source(run.blueprint, "questions"), 32)
    assert set(actual.outputs["answer_of"].per_class) <= set(ANSWERS)


def test_questions_of_easy_vqa_are_answered_in_words_and_by_rank(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = real_data("easy_vqa")
    run = trained(
        "blip",
        "tasks/vqa_generate",
        tmp_path,
        f"data.questions.path={folder / 'train.jsonl'}",
        "inputs.answers.from=answer",
        "components.answerer.depth=1",
        f"+inputs.closed={{type: text, like: caption, table: '{folder / 'answers.txt'}', max_length: 10}}",
        "+outputs.ranked={rank: answer_logits, over: answers, among: closed}",
    )
    actual = evaluate_answering(run.asker, declared_source(run.blueprint, "questions"), 16)
    assert set(actual.outputs) == {"answer", "ranked"}
    assert {answer.said for answer in actual.outputs["ranked"]} <= set(ANSWERS)
    assert {answer.accuracy for answer in actual.outputs["ranked"]} <= {0.0, 1.0}, "a record has one answer"
