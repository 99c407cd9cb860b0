"""Ranked texts against the whole program, a text and a row at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compose_vlp.compiler.model import Step
from compose_vlp.data.collate import Collator
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.rank import Ranker
from compose_vlp.values import Index
from tests.models import TOWERS, tiny
from tests.support import assert_near

ANSWERS = ("red", "blue", "a red circle", "two", "to the left of it", "yes")
QUESTIONS = ["what colour is the circle ?", "how many stars are there ?", "is it blue ?"]


@pytest.fixture(scope="module", params=["tiny/albef", "tiny/blip"])
def asker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asker:
    table = tmp_path_factory.mktemp("answers") / "answers.txt"
    table.write_text("\n".join(ANSWERS) + "\n", encoding="utf-8")
    return tiny(request.param, "tasks/vqa_generate", small=TOWERS, overrides=ranked(table))


def ranked(table: Path, top: int = 4) -> list[str]:
    how = f"rank: answer_logits, over: answers, among: closed, top: {top}"
    return [
        "components.answerer.depth=2",
        "components.answerer.heads=4",
        f"+inputs.closed={{type: text, like: answers, many: false, table: '{table}'}}",
        f"+outputs.ranked={{{how}}}",
        f"+outputs.ranked_as_albef={{{how}, first_word: 2}}",
        f"+outputs.ranked_as_blip={{{how}, label_smoothing: 0.1}}",
        "data.questions={use: scenes}",
    ]


def batch(asker: Asker) -> dict[str, Any]:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    inputs = {name: asker.blueprint.inputs[name] for name in ("image", "question")}
    collator = Collator(inputs, asker.tokenizers)
    return collator.stack(
        [collator.read({"image": i, "question": q}) for i, q in zip(pictures, QUESTIONS, strict=True)]
    )


def one_by_one(asker: Asker) -> tuple[Tensor, Tensor]:
    """[questions, answers, words]: log p of each word of each answer from the whole program, and the mean of log p over
    all words of the vocabulary in its place; nan past the end."""
    collator = Collator({"answers": asker.blueprint.inputs["answers"]}, asker.tokenizers)
    values, program = batch(asker), Ranker(asker, "ranked")._programs.whole.run
    actual, means = torch.full((2, 3, len(ANSWERS), 12), torch.nan)
    for row in range(3):
        for place, answer in enumerate(ANSWERS):
            texts = collator.stack([collator.read({"answers": [answer]})] * 3)
            with torch.no_grad():
                logits = asker.model(program, {**values, **texts, "answers.owner": Index(torch.arange(3))}, Step())
            ids = texts["answers"].ids[row]
            logs = logits["logits"].scores[row].log_softmax(-1)
            for n in range(len(ids) - 1):
                actual[row, place, n], means[row, place, n] = logs[n, ids[n + 1]], logs[n].mean()
    return actual, means


@pytest.mark.parametrize(
    ("output", "first_word", "smoothing"),
    [("ranked", 1, 0.0), ("ranked_as_albef", 2, 0.0), ("ranked_as_blip", 1, 0.1)],
)
def test_the_likeliest_by_their_first_word_are_ranked_by_all_their_words(
    asker: Asker, output: str, first_word: int, smoothing: float
) -> None:
    logs, means = one_by_one(asker)
    whole = ((1 - smoothing) * logs + smoothing * means).nansum(-1) + (first_word - 1) * logs[..., 0]
    actual = Ranker(asker, output).rank(batch(asker))
    for row in range(3):
        chosen = logs[row, :, 0].topk(4).indices
        order = whole[row, chosen].argsort(descending=True)
        assert actual.texts[row].tolist() == chosen[order].tolist()
        assert_near(actual.scores[row], whole[row, chosen][order])


def test_ranks_do_not_depend_on_how_many_are_judged_at_once(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Ranker(asker, "ranked").rank(batch(asker))
    monkeypatch.setattr("compose_vlp.runtime.inference.rank.TEXTS_AT_ONCE", 5)
    pieces = Ranker(asker, "ranked").rank(batch(asker))
    assert torch.equal(whole.texts, pieces.texts)
    assert_near(whole.scores, pieces.scores)


def test_texts_are_those_of_the_table(asker: Asker) -> None:
    ranker = Ranker(asker, "ranked")
    assert ranker.texts == ANSWERS and set(asker.inputs_read("ranked")) == {"image", "question"}


def test_an_output_that_writes_ranks_nothing(asker: Asker) -> None:
    with pytest.raises(UserError, match=r"output 'answer' of .* ranks no texts"):
        Ranker(asker, "answer")


def test_answers_are_written_for_each_question(asker: Asker) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
    given = {"image": pictures, "question": QUESTIONS}
    cached = asker.texts("answer", given)
    again = asker.texts_of_batch("answer", asker.batch("answer", given), cached=False)
    assert len(cached) == 3 and cached == again
    assert asker.inputs_read("answer") == ("image", "question")
