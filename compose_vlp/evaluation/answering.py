"""Open questions: answers that a model writes, or ranks among given ones, by VQA's accuracy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, no_outputs, values_of
from compose_vlp.evaluation.embeddings import Tick, silent
from compose_vlp.runtime.outputs import Asker
from compose_vlp.runtime.rank import Ranker

ANNOTATORS: Final = 10
"""VQA asked so many people each question."""
AGREE: Final = 3
"""An answer is right for one of them if three of the others gave it."""
NUMBERS: Final = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"none": "0"}
ARTICLES: Final = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class Answer:
    """What was said of a record, and what people said, with the share of each answer."""

    row: int
    said: str
    given: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """VQA's accuracy (Antol et al. 2015), as `vqa_accuracy` has it."""
        return vqa_accuracy(self.said, self.given)


@dataclass(frozen=True)
class Answered:
    """Answers by output."""

    outputs: Mapping[str, tuple[Answer, ...]]

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        return {
            f"{name}_vqa_accuracy": sum(one.accuracy for one in answers) / len(answers)
            for name, answers in self.outputs.items()
        }

    def as_json(self) -> dict[str, Any]:
        """The numbers, and each answer."""
        said = {
            name: [{"record": a.row, "said": a.said, "given": dict(a.given), "accuracy": a.accuracy} for a in answers]
            for name, answers in self.outputs.items()
        }
        return {**self.flat(), "said": said}


def vqa_accuracy(said: str, given: Mapping[str, float]) -> float:
    """VQA's accuracy of an answer against the shares in which people gave theirs; both are cut down to plain words.

    The mean over ten people of min(n / 3, 1), n of the nine others having given the answer, as in the official script
    (github.com/GT-Vision-Lab/VQA, `vqaEval.py`): 0.3, 0.6, 0.9 and 1 for one, two, three and four of ten. Other numbers
    of people count as ten of whom the same share gave it, so that a record's only answer is right.
    """
    share = sum(weight for answer, weight in given.items() if plain(answer) == plain(said))
    gave = ANNOTATORS * share
    return share * _agreed(gave - 1) + (1 - share) * _agreed(gave)


def _agreed(others: float) -> float:
    return min(max(others / AGREE, 0.0), 1.0)


def plain(answer: str) -> str:
    """An answer without case, punctuation and articles, numbers up to ten as digits.

    Apostrophes are left out of both sides, where the official script puts them back into some hundred contractions:
    either way `dont` and `don't` are one answer.
    """
    words = re.sub(r"(?<=\d),(?=\d)", "", answer.lower())
    words = re.sub(r"['’](?=\w)", "", words)
    return " ".join(NUMBERS.get(word, word) for word in re.findall(r"\w+(?:[.:]\d+)?", words) if word not in ARTICLES)


def answerers(asker: Asker) -> dict[str, str]:
    """The outputs that answer questions, and the inputs with people's answers: texts of which a record has many."""
    found = {}
    for name, entry in asker.blueprint.outputs.items():
        over = asker.blueprint.inputs.get(entry.over or "")
        if entry.form in ("generate", "rank") and isinstance(over, TextInput) and over.many:
            found[name] = str(entry.over)
    return found


def evaluate_answering(asker: Asker, source: Source, count: int = 1000, *, tick: Tick = silent) -> Answered:
    """The answers to the first `count` records, against those that people gave. Records without any are left out.

    Raises:
        UserError: no output answers questions, or no record has an answer.
    """
    found = answerers(asker)
    if not found:
        raise no_outputs(asker, "answering")
    return Answered({name: _answers(asker, source, count, name, over, tick) for name, over in found.items()})


def _answers(asker: Asker, source: Source, count: int, output: str, over: str, tick: Tick) -> tuple[Answer, ...]:
    field = asker.blueprint.inputs[over].field or over
    found: list[Answer] = []
    done = 0
    for rows, said in _said(asker, source, count, output):
        given = map(_shares, values_of(source, rows, field))
        found += (Answer(row, text, of) for row, text, of in zip(rows, said, given, strict=True) if of)
        done += len(rows)
        tick(done)
    if not found:
        raise UserError(f"none of the first {count} records has an answer in its field {field!r}")
    return tuple(found)


def _said(asker: Asker, source: Source, count: int, output: str) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """Record numbers and answers, batch by batch."""
    if asker.blueprint.outputs[output].form == "rank":
        ranker = Ranker(asker, output)
        for rows, values in batches(asker, source, ranker.inputs, count):
            yield rows, [ranker.texts[best] for best in ranker.rank(values).texts[:, 0].tolist()]
        return
    for rows, values in batches(asker, source, asker.inputs_read(output), count):
        yield rows, asker.texts_of_batch(output, values)


def _shares(value: object) -> dict[str, float]:
    """The share of people that gave each answer, as inputs of many texts weigh them."""
    if isinstance(value, Mapping):
        return {str(answer): float(weight) for answer, weight in value.items()}
    answers = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return {answer: n / len(answers) for answer, n in Counter(map(str, answers)).items()}
