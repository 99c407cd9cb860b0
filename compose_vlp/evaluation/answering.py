"""Open questions: answers that a model writes, ranks among given ones, or has as classes, by VQA's accuracy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

from compose_vlp.blueprint.inputs import LabelInput, TextInput
from compose_vlp.data.source import Source
from compose_vlp.data.tables import class_names
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, finite, no_outputs, values_of
from compose_vlp.evaluation.classification import labelled
from compose_vlp.evaluation.embeddings import Tick, silent
from compose_vlp.evaluation.vqa import SOFT_SCORES, Weights, plain, vqa_accuracy, weights_of
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.rank import Ranker

__all__ = ["Answer", "Answered", "answerers", "evaluate_answering", "plain", "vqa_accuracy"]


@dataclass(frozen=True)
class Answer:
    """What was said of a record, and what people said, with the weight of each answer."""

    row: int
    said: str
    given: Mapping[str, float]
    weights: Weights = "shares"

    @property
    def accuracy(self) -> float:
        """VQA's accuracy (Antol et al. 2015), as `vqa_accuracy` has it."""
        return vqa_accuracy(self.said, self.given, self.weights)


@dataclass(frozen=True)
class Answered:
    """Answers by output."""

    outputs: Mapping[str, tuple[Answer, ...]]

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        return {
            f"{name}_vqa_accuracy": sum(answer.accuracy for answer in answers) / len(answers)
            for name, answers in self.outputs.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, and each answer."""
        listed = {
            name: [{"record": a.row, "said": a.said, "given": dict(a.given), "accuracy": a.accuracy} for a in answers]
            for name, answers in self.outputs.items()
        }
        return {**self.flat(), "said": listed}


def answerers(asker: Asker) -> dict[str, str]:
    """List the outputs that answer questions, each with the input of people's answers: many texts a record, or
    classes that have names."""
    labels = {name: label for name, (label, spec) in labelled(asker).items() if spec.many and spec.classes is not None}
    for name, entry in asker.blueprint.outputs.items():
        over = asker.blueprint.inputs.get(entry.over or "")
        if entry.form in ("generate", "rank") and isinstance(over, TextInput) and over.many:
            labels[name] = str(entry.over)
    return labels


def evaluate_answering(asker: Asker, source: Source, count: int = 1000, *, tick: Tick = silent) -> Answered:
    """Compare the answers to the first `count` records with those that people gave; leave out records without any.

    Raises:
        UserError: no output answers questions, or no record has an answer.
    """
    labels = answerers(asker)
    if not labels:
        raise no_outputs(asker, "answering")
    return Answered({name: _answers(asker, source, count, name, over, tick) for name, over in labels.items()})


def _answers(asker: Asker, source: Source, count: int, output: str, over: str, tick: Tick) -> tuple[Answer, ...]:
    field = asker.blueprint.inputs[over].field or over
    triples: list[tuple[int, str, dict[str, float]]] = []
    done = 0
    classes = _classes(asker, over)
    for rows, predicted in _said(asker, source, count, output, classes):
        values = zip(rows, values_of(source, rows, field), strict=True)
        given = [_weighted(value, field, row, classes) for row, value in values]
        triples += (triple for triple in zip(rows, predicted, given, strict=True) if triple[2])
        done += len(rows)
        tick(done)
    if not triples:
        raise UserError(f"none of the first {count} records has an answer in its field {field!r}")
    weights = _weights_of({row: given for row, _, given in triples}, field)
    return tuple(Answer(row, predicted, given, weights) for row, predicted, given in triples)


def _weights_of(given: Mapping[int, Mapping[str, float]], field: str) -> Weights:
    """Tell from all these records what their weights mean.

    Raises:
        UserError: they may mean several things, so that the accuracy would be a guess.
    """
    try:
        return weights_of(given.values())
    except ValueError as unclear:
        scores = ", ".join(f"{score:g}" for score in SOFT_SCORES)
        hints = [
            "shares sum to 1 in each record; counts of people are whole numbers, and are divided by their sum",
            f"soft scores are {scores}, and sum to more than 1 in some record; they are themselves the accuracy",
        ]
        raise UserError(f"weights of `{field}`: {unclear}", hints=hints) from None


def _classes(asker: Asker, over: str) -> tuple[str, ...]:
    """Return the names of a label's answers; none for a text."""
    spec = asker.blueprint.inputs[over]
    return (class_names(spec) or ()) if isinstance(spec, LabelInput) else ()


def _said(
    asker: Asker, source: Source, count: int, output: str, classes: Sequence[str]
) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """Record numbers and answers, batch by batch."""
    if asker.blueprint.outputs[output].form == "value":
        for rows, values in batches(asker, source, asker.inputs_read(output), count):
            scores = finite(asker.value_of_batch(output, values), output)
            if scores.shape[1] != len(classes):
                raise UserError(f"{output!r} scores {scores.shape[1]} answers, and {len(classes)} have names")
            yield rows, [classes[best] for best in scores.argmax(1).tolist()]
        return
    if asker.blueprint.outputs[output].form == "rank":
        ranker = Ranker(asker, output)
        for rows, values in batches(asker, source, asker.inputs_read(output), count):
            ranked = ranker.rank(values)
            finite(ranked.scores, output)
            yield rows, [ranker.texts[best] for best in ranked.texts[:, 0].tolist()]
        return
    for rows, values in batches(asker, source, asker.inputs_read(output), count):
        yield rows, asker.texts_of_batch(output, values)


def _weighted(value: object, field: str, row: int, classes: Sequence[str]) -> dict[str, float]:
    """People's answers with a weight each, as inputs of many texts have them; of a list, how many gave each."""
    if isinstance(value, Mapping):
        return {_named(answer, classes): _weight(weight, field, row) for answer, weight in value.items()}
    answers = value if isinstance(value, list | tuple) else [value] if isinstance(value, str | int) else []
    return {answer: float(n) for answer, n in Counter(_named(gave, classes) for gave in answers).items()}


def _named(answer: object, classes: Sequence[str]) -> str:
    """Return an answer in words; a record may name a class by its number."""
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(classes):
        return classes[answer]
    return str(answer)


def _weight(value: object, field: str, row: int) -> float:
    if isinstance(value, bool) or not isinstance(value, SupportsFloat) or not 0 <= float(value) < math.inf:
        raise UserError(f"record {row}: {field} has the weight {value!r}, which is no number from 0")
    return float(value)
