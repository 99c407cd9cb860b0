"""Accuracy of chosen classes against the outputs asked one record at a time."""

from __future__ import annotations

import pytest

from compose_vlp.data import open_source
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.classification import Choices, Classified, classifiers, evaluate_classification
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import evaluate, possible_tasks
from compose_vlp.runtime.inference.outputs import Asker
from tests.models import TOWERS, tiny
from tests.records import Given

COUNT = 20
SCENES = {"use": "scenes", "size": 16, "count": COUNT}


@pytest.fixture(scope="module")
def pairs() -> Asker:
    """A judge of statements about two pictures, as NLVR2's."""
    return tiny(
        "tiny/albef",
        "tasks/nlvr2",
        small=TOWERS,
        overrides=[
            "inputs.statement.from=pair_statement",
            "inputs.truth.from=pair_right",
            "data.statements={use: scenes}",
        ],
    )


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(SCENES)


def test_the_label_is_that_of_the_loss_that_teaches_the_output(pairs: Asker) -> None:
    assert classifiers(pairs) == {"truth_of": "truth"}


def test_accuracy_is_that_of_records_asked_one_by_one(pairs: Asker, source: Source) -> None:
    actual = evaluate_classification(pairs, source, COUNT)
    records = [source.record(n) for n in range(COUNT)]
    predicted = [
        int(
            pairs.value(
                "truth_of",
                {
                    "left": [record["left"]()],
                    "right": [record["right"]()],
                    "pair_statement": [record["pair_statement"]()],
                },
            ).argmax()
        )
        for record in records
    ]
    truth = [int(record["pair_right"]()) for record in records]
    chosen = actual.outputs["truth_of"]
    assert list(chosen.truth) == truth and list(chosen.said) == predicted
    share = sum(a == b for a, b in zip(truth, predicted, strict=True)) / COUNT
    assert actual.flat() == {
        "accuracy": pytest.approx(share),
        "accuracy_of_commonest_class": max(sum(truth), COUNT - sum(truth)) / COUNT,
    }
    assert chosen.classes == ("0", "1") and set(chosen.per_class) == {"0", "1"}


def test_it_is_possible_where_records_have_the_label(pairs: Asker, source: Source) -> None:
    assert possible_tasks(pairs, source) == ("classification",)
    results = evaluate(pairs, source, ("classification",), 6)
    page = page_of(results, pairs, source, title="run", subtitle="six")
    assert "truth chosen rightly" in page and "held against `truth`" in page
    assert len(results.as_json()["classification"]["truth_of"]["said"]) == 6


def test_names_of_classes_are_the_input_s() -> None:
    asker = tiny("tiny/blip", "tasks/entailment", small=TOWERS, overrides=["data.statements={use: scenes}"])
    records = [{"image": open_source(SCENES).record(0)["image"](), "statement": "a star", "relation": "neutral"}] * 3
    actual = evaluate_classification(asker, Given(records))
    assert set(actual.outputs["relation_of"].per_class) == {"neutral"}
    with pytest.raises(UserError, match="reads the field 'relation', which the records do not have"):
        evaluate_classification(asker, open_source(SCENES), 4)


def test_outputs_that_choose_no_class_are_told() -> None:
    with pytest.raises(UserError, match="classification asks for an output of the scores") as error:
        evaluate_classification(tiny("tiny/albef"), open_source(SCENES))
    assert "its outputs: image_embedding, text_embedding, match" in error.value.problems[0].hints


def test_several_outputs_are_named_in_the_numbers() -> None:
    choices = Choices("label", ("no", "yes"), (0, 1, 2, 3), (0, 1, 1, 1), (0, 0, 1, 1))
    assert Classified({"a": choices}).flat() == {"accuracy": 0.75, "accuracy_of_commonest_class": 0.75}
    assert set(Classified({"a": choices, "b": choices}).flat()) == {
        "a_accuracy",
        "a_accuracy_of_commonest_class",
        "b_accuracy",
        "b_accuracy_of_commonest_class",
    }
    assert choices.per_class == {"no": 1.0, "yes": pytest.approx(2 / 3)}
