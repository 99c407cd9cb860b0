"""VQA's accuracy of written and of ranked answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from compose_vlp.data import open_source
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.answering import answerers, evaluate_answering, plain, vqa_accuracy
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import evaluate, possible_tasks
from compose_vlp.runtime.outputs import Asker
from compose_vlp.runtime.rank import Ranker
from tests.models import TOWERS, tiny
from tests.records import Given

COUNT = 12


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    table = tmp_path_factory.mktemp("answers") / "answers.txt"
    table.write_text("red\nblue\nyes\nno\ntwo\nthree\n", encoding="utf-8")
    overrides = [
        "components.answerer.depth=2",
        "components.answerer.heads=4",
        f"+inputs.closed={{type: text, like: answers, many: false, table: '{table}'}}",
        "+outputs.ranked={rank: answer_logits, over: answers, among: closed}",
        "data.questions={use: scenes}",
    ]
    return tiny("tiny/albef", "tasks/vqa_generate", small=TOWERS, overrides=overrides)


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source({"use": "scenes", "size": 16, "count": COUNT})


@pytest.mark.parametrize(
    ("said", "given", "accuracy"),
    [
        ("red", ["red"] * 10, 1.0),
        ("red", ["red"] * 4 + ["blue"] * 6, 1.0),
        ("red", ["red"] * 3 + ["blue"] * 7, 0.9),
        ("red", ["red"] * 2 + ["blue"] * 8, 0.6),
        ("Red.", ["red"] + ["blue"] * 9, 0.3),
        ("green", ["red"] * 10, 0.0),
        ("the two", ["2"] * 2 + ["Two"] * 1 + ["one"] * 7, 0.9),
        ("red", ["red"], 1.0),
        ("red", ["red", "blue"], 1.0),
        ("red", ["red"] * 2 + ["blue"] * 18, 0.3),
    ],
)
def test_an_answer_is_right_once_three_others_of_ten_gave_it(said: str, given: Sequence[str], accuracy: float) -> None:
    shares = {one: given.count(one) / len(given) for one in given}
    assert vqa_accuracy(said, shares) == pytest.approx(accuracy)


@pytest.mark.parametrize("same", range(11))
def test_of_ten_answers_each_is_left_out_in_turn_as_in_the_official_script(same: int) -> None:
    given = ["red"] * same + ["blue"] * (10 - same)
    turns = [min((given[:left] + given[left + 1 :]).count("red") / 3, 1) for left in range(10)]
    shares = {one: given.count(one) / 10 for one in given}
    assert vqa_accuracy("red", shares) == pytest.approx(sum(turns) / 10, abs=1e-12)


@pytest.mark.parametrize(("weight", "accuracy"), [(0.05, 0.95 / 6), (0.15, 0.45), (1 / 3, 25 / 27), (0.5, 1), (7, 1)])
def test_weights_that_are_no_tenths_count_as_ten_people_in_these_shares(weight: float, accuracy: float) -> None:
    assert vqa_accuracy("red", {"red": weight}) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("A red-circle!", "red circle"),
        ("None", "0"),
        ("It's ten", "its 10"),
        ("don't", "dont"),
        ("y\u2019all'd've", "yalldve"),
        ("'twas", "twas"),
        ("1,000", "1000"),
        ("2.5", "2.5"),
        ("", ""),
    ],
)
def test_answers_are_cut_down_to_plain_words(answer: str, words: str) -> None:
    assert plain(answer) == words


def test_written_and_ranked_answers_are_held_against_the_records(asker: Asker, source: Source) -> None:
    assert answerers(asker) == {"answer": "answers", "ranked": "answers"}
    assert possible_tasks(asker, source) == ("answering",)
    found = evaluate_answering(asker, source, COUNT)
    ranker = Ranker(asker, "ranked")
    for n in range(COUNT):
        record = source.record(n)
        given = {"image": [record["image"]()], "question": [record["question"]()]}
        batch = asker.batch("answer", given)
        written, ranked = found.outputs["answer"][n], found.outputs["ranked"][n]
        assert written.said == asker.texts_of_batch("answer", batch)[0]
        assert ranked.said == ranker.texts[int(ranker.rank(batch).texts[0, 0])]
        assert ranked.given == dict(record["answers"]())
        assert ranked.accuracy == vqa_accuracy(ranked.said, record["answers"]())
    mean = sum(one.accuracy for one in found.outputs["ranked"]) / COUNT
    assert found.flat()["ranked_vqa_accuracy"] == pytest.approx(mean)


def test_the_page_shows_what_was_said(asker: Asker, source: Source) -> None:
    results = evaluate(asker, source, ("answering",), 4)
    page = page_of(results, asker, source, title="run", subtitle="four")
    assert "ranked, VQA accuracy" in page and "people said" in page
    assert len(results.as_json()["answering"]["said"]["answer"]) == 4


def test_records_without_answers_are_left_out(asker: Asker, source: Source) -> None:
    records = [{**source.record(n), "answers": answers} for n, answers in enumerate([["red"], [], None])]
    found = evaluate_answering(asker, Given(records))
    assert [one.row for one in found.outputs["answer"]] == [0]
    records[0]["answers"] = []
    with pytest.raises(UserError, match="has an answer in its field 'answers'"):
        evaluate_answering(asker, Given(records))


def test_a_list_without_the_true_answer_gives_its_likeliest_which_is_wrong(asker: Asker, source: Source) -> None:
    class Unlisted(Source):
        def __len__(self) -> int:
            return 3

        def record(self, index: int) -> dict[str, object]:
            return {**source.record(index), "answers": ["purple"]}

    said = evaluate_answering(asker, Unlisted(None)).outputs["ranked"]
    assert len(said) == 3
    assert all(one.said in Ranker(asker, "ranked").texts and one.accuracy == 0.0 for one in said)


def test_a_model_that_answers_nothing_is_told(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="answering asks for an output that writes or ranks answers"):
        evaluate_answering(tiny("tiny/blip"), source)
