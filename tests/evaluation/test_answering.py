"""VQA's accuracy of written and of ranked answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.data import open_source
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.answering import answerers, evaluate_answering, vqa_accuracy
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import evaluate, possible_tasks
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.rank import Ranker
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


def test_written_and_ranked_answers_are_held_against_the_records(asker: Asker, source: Source) -> None:
    assert answerers(asker) == {"answer": "answers", "ranked": "answers"}
    assert possible_tasks(asker, source) == ("answering",)
    actual = evaluate_answering(asker, source, COUNT)
    ranker = Ranker(asker, "ranked")
    for n in range(COUNT):
        record = source.record(n)
        given = {"image": [record["image"]()], "question": [record["question"]()]}
        batch = asker.batch("answer", given)
        written, ranked = actual.outputs["answer"][n], actual.outputs["ranked"][n]
        assert written.said == asker.texts_of_batch("answer", batch)[0]
        assert ranked.said == ranker.texts[int(ranker.rank(batch).texts[0, 0])]
        assert ranked.given == dict(record["answers"]())
        assert ranked.accuracy == vqa_accuracy(ranked.said, record["answers"]())
    mean = sum(answer.accuracy for answer in actual.outputs["ranked"]) / COUNT
    assert actual.flat()["ranked_vqa_accuracy"] == pytest.approx(mean)


def test_the_page_shows_what_was_said(asker: Asker, source: Source) -> None:
    results = evaluate(asker, source, ("answering",), 4)
    page = page_of(results, asker, source, title="run", subtitle="four")
    assert "ranked, VQA accuracy" in page and "people said" in page
    assert len(results.as_json()["answering"]["said"]["answer"]) == 4


def test_records_without_answers_are_left_out(asker: Asker, source: Source) -> None:
    records = [{**source.record(n), "answers": answers} for n, answers in enumerate([["red"], [], None])]
    actual = evaluate_answering(asker, Given(records))
    assert [answer.row for answer in actual.outputs["answer"]] == [0]
    records[0]["answers"] = []
    with pytest.raises(UserError, match="has an answer in its field 'answers'"):
        evaluate_answering(asker, Given(records))


def test_soft_scores_are_known_by_the_whole_data_set(asker: Asker, source: Source) -> None:
    texts = list(Ranker(asker, "ranked").texts)
    weights = [dict.fromkeys(texts, 0.3), dict.fromkeys(texts[:2], 0.9)]
    records = [{**source.record(n), "answers": given} for n, given in enumerate(weights)]
    first, second = evaluate_answering(asker, Given(records)).outputs["ranked"]
    assert first.weights == "scores" and first.accuracy == pytest.approx(0.3)
    assert second.accuracy == pytest.approx(0.9 if second.said in texts[:2] else 0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"red": 0.3}, "weights of `answers`: .*'red': 0.3.* not clearly soft scores"),
        ({"red": 0.7, "blue": 0.7}, "weights of `answers`"),
        ({"red": -1.0, "blue": 2.0}, "record 0: answers has the weight -1.0"),
        ({"red": float("nan")}, "record 0: answers has the weight nan"),
        ({"red": "many"}, "record 0: answers has the weight 'many'"),
    ],
)
def test_weights_that_may_mean_several_things_are_refused(
    asker: Asker, source: Source, given: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_answering(asker, Given([{**source.record(0), "answers": given}]))


def test_a_list_without_the_true_answer_gives_its_likeliest_which_is_wrong(asker: Asker, source: Source) -> None:
    class Unlisted(Source):
        def __len__(self) -> int:
            return 3

        def record(self, index: int) -> dict[str, object]:
            return {**source.record(index), "answers": ["purple"]}

    answers = evaluate_answering(asker, Unlisted(None)).outputs["ranked"]
    assert len(answers) == 3
    assert all(answer.said in Ranker(asker, "ranked").texts and answer.accuracy == 0.0 for answer in answers)


ANSWERS = ("red", "blue", "yes", "no", "2", "3")


def classifier(*overrides: str) -> Asker:
    """Questions as a choice among the answers of a file."""
    changes = [f"components.judge.classes={len(ANSWERS)}", "data.questions={use: scenes}", *overrides]
    return tiny("tiny/albef", "tasks/vqa_scores", small=TOWERS, overrides=changes)


@pytest.fixture(scope="module")
def chooser(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    table = tmp_path_factory.mktemp("classes") / "answers.txt"
    table.write_text("\n".join(ANSWERS), encoding="utf-8")
    return classifier(f"inputs.answers.classes='{table}'")


def test_a_classifier_answers_with_the_names_of_its_classes(chooser: Asker, source: Source) -> None:
    assert answerers(chooser) == {"answer_of": "answers"}
    assert possible_tasks(chooser, source) == ("answering",)
    actual = evaluate_answering(chooser, source, COUNT).outputs["answer_of"]
    for n, answer in enumerate(actual):
        record = source.record(n)
        scores = chooser.value("answer_of", {"image": [record["image"]()], "question": [record["question"]()]})
        assert answer.said == ANSWERS[int(scores.argmax())]
        assert answer.accuracy == vqa_accuracy(answer.said, record["answers"]())


def test_numbers_of_classes_are_their_names(chooser: Asker, source: Source) -> None:
    given = [[0, 0, "blue"], {1: 1.0}, 3]
    records = [{**source.record(n), "answers": answers} for n, answers in enumerate(given)]
    actual = evaluate_answering(chooser, Given(records)).outputs["answer_of"]
    assert [dict(answer.given) for answer in actual] == [{"red": 2.0, "blue": 1.0}, {"blue": 1.0}, {"no": 1.0}]


def test_a_classifier_without_names_is_told_to_have_some(source: Source) -> None:
    nameless = classifier()
    assert possible_tasks(nameless, source) == ()
    with pytest.raises(UserError, match="has `classes`"):
        evaluate_answering(nameless, source)


def test_a_model_that_answers_nothing_is_told(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="answering asks for an output that writes or ranks answers"):
        evaluate_answering(tiny("tiny/blip"), source)
