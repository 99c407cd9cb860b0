"""Accuracy of outputs that choose a class: entailment, statements about two pictures, closed questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from compose_vlp.blueprint.inputs import LabelInput
from compose_vlp.data.source import Source
from compose_vlp.data.tables import class_names
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, finite, no_outputs
from compose_vlp.evaluation.embeddings import Tick, silent
from compose_vlp.graph.plan import Ref
from compose_vlp.readable import distinct
from compose_vlp.runtime.inference.outputs import Asker, tensor_of
from compose_vlp.runtime.inference.tower_cache import before_softmax


@dataclass(frozen=True)
class Choices:
    """What an output chose: `truth` and `said` are places in `classes`, one for each record."""

    label: str
    classes: tuple[str, ...]
    rows: tuple[int, ...]
    truth: tuple[int, ...]
    said: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        """Return the share of records whose class was chosen."""
        return sum(true == chosen for true, chosen in zip(self.truth, self.said, strict=True)) / len(self.rows)

    @property
    def commonest(self) -> float:
        """Return the accuracy of always choosing the commonest class."""
        return max(Counter(self.truth).values()) / len(self.rows)

    @cached_property
    def per_class(self) -> dict[str, float]:
        """Accuracy of every class that has records."""
        counts, right = Counter(self.truth), Counter(t for t, s in zip(self.truth, self.said, strict=True) if t == s)
        return {self.classes[number]: right[number] / counts[number] for number in sorted(counts)}


@dataclass(frozen=True)
class Classified:
    """Choices by output."""

    outputs: Mapping[str, Choices]

    def flat(self) -> dict[str, float]:
        """One name for each number; an output that is the only one is not named in them."""
        numbers: dict[str, float] = {}
        for name, choices in self.outputs.items():
            before = f"{name}_" if len(self.outputs) > 1 else ""
            numbers |= {
                f"{before}accuracy": choices.accuracy,
                f"{before}accuracy_of_commonest_class": choices.commonest,
            }
        return numbers

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, every class's accuracy, and each record's class."""
        return {
            name: {
                "label": choices.label,
                "accuracy": choices.accuracy,
                "commonest": choices.commonest,
                "per_class": choices.per_class,
                "said": [
                    {"record": row, "class": choices.classes[true], "taken_for": choices.classes[chosen]}
                    for row, true, chosen in zip(choices.rows, choices.truth, choices.said, strict=True)
                ],
            }
            for name, choices in self.outputs.items()
        }


def classifiers(asker: Asker) -> dict[str, str]:
    """List the outputs that choose a class, each with the input that its loss takes the right class from."""
    return {name: label for name, (label, spec) in labelled(asker).items() if not spec.many}


def labelled(asker: Asker) -> dict[str, tuple[str, LabelInput]]:
    """List outputs whose scores a loss compares with a label's classes, each with its input's name and settings."""
    blueprint = asker.blueprint
    taught: dict[Ref, tuple[str, LabelInput]] = {}
    for loss in blueprint.losses.values():
        arguments = dict(blueprint.calls[loss.call].args)
        logits, labels = arguments.get("logits"), arguments.get("labels")
        if (
            isinstance(logits, Ref)
            and isinstance(labels, Ref)
            and isinstance(spec := blueprint.inputs.get(labels.call), LabelInput)
        ):
            taught[logits] = labels.call, spec
    values = {
        name: before_softmax(blueprint, entry.ref) for name, entry in blueprint.outputs.items() if entry.form == "value"
    }
    return {name: taught[ref] for name, ref in values.items() if ref in taught}


def evaluate_classification(asker: Asker, source: Source, count: int = 1000, *, tick: Tick = silent) -> Classified:
    """Compare the classes that outputs choose for the first `count` records with those that the records have.

    Raises:
        UserError: no output chooses a class that a loss teaches it, the records have none, or none can be read.
    """
    labels = classifiers(asker)
    if not labels:
        raise no_outputs(asker, "classification")
    return Classified({output: _choices(asker, source, count, output, label, tick) for output, label in labels.items()})


def _choices(asker: Asker, source: Source, count: int, output: str, label: str, tick: Tick) -> Choices:
    rows: list[int] = []
    truth: list[int] = []
    chosen: list[int] = []
    width = 0
    for numbers, values in batches(asker, source, (*asker.inputs_read(output), label), count):
        scores = finite(asker.value_of_batch(output, values), output)
        width = scores.shape[1]
        rows += numbers
        truth += tensor_of(values[label]).tolist()
        chosen += scores.argmax(1).tolist()
        tick(len(rows))
    if not rows:
        raise UserError(f"none of the first {count} records can be read")
    if max(truth) >= width:
        place = next(row for row, number in zip(rows, truth, strict=True) if number >= width)
        raise UserError(f"record {place}: {label} is class {max(truth)}, and {output!r} has {width} classes")
    known = asker.blueprint.inputs[label]
    assert isinstance(known, LabelInput)
    classes = distinct(class_names(known) or tuple(map(str, range(width))))
    return Choices(label, classes, tuple(rows), tuple(truth), tuple(chosen))
