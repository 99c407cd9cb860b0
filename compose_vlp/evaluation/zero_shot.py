"""Zero-shot classification: of the classes' texts the one whose embedding is nearest to the picture's.

CLIP (Radford et al. 2021, section 3.1.4): a class is the mean of the normalised embeddings of its name in several
templates, normalised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.blueprint.inputs import LabelInput
from compose_vlp.blueprint.sections import ZeroShot
from compose_vlp.data import labels
from compose_vlp.data.source import BadRecord, ClassNumber, Source
from compose_vlp.data.tables import SLOT, class_names, read_lines
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, finite, values_of
from compose_vlp.evaluation.embeddings import Embedder, Tick, silent
from compose_vlp.readable import distinct
from compose_vlp.runtime.inference.outputs import Asker

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPLATES: Final = ("a {}", "the {}", "a photo of a {}", "a photo of the {}", "a picture of a {}", "an image of a {}")
"""Where nobody gives templates. CLIP's own 80 for ImageNet do a few percent better there."""
TOP = 5


@dataclass(frozen=True)
class Classification:
    """What was taken for what: `truth` and `said` are places in `classes`, one for each record.

    Classes of one name, as ImageNet has, have their number beside it.

    `confusion[i, j]` counts the records of class `i` that were taken for class `j`; `top` is the accuracy among the
    first 1, and where there are more classes the first 5.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...]
    rows: tuple[int, ...]
    truth: tuple[int, ...]
    said: tuple[int, ...]
    top: dict[int, float]
    confusion: NDArray[np.int64]

    @cached_property
    def per_class(self) -> dict[str, float]:
        """Accuracy of every class that has records."""
        counts = self.confusion.sum(1)
        right = self.confusion.diagonal()
        return {
            name: float(right[place] / counts[place]) for place, name in enumerate(self.classes) if counts[place] > 0
        }

    @property
    def mean_of_classes(self) -> float:
        """Return the mean over classes, which a common class does not decide."""
        return sum(self.per_class.values()) / len(self.per_class)

    @property
    def chance(self) -> float:
        """Return the accuracy of a blind guess."""
        return 1 / len(self.classes)

    @property
    def commonest(self) -> float:
        """Return the accuracy of always naming the commonest class."""
        return float(self.confusion.sum(1).max() / len(self.rows))

    def mistaken(self) -> list[tuple[str, str, int]]:
        """List true class, class that it was taken for, and how often; the most frequent first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        pairs = [(int(wrong[i, j]), int(i), int(j)) for i, j in np.argwhere(wrong)]
        return [
            (self.classes[i], self.classes[j], n) for n, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))
        ]

    def flat(self) -> dict[str, float]:
        """One name for each number, as trackers and scripts want them."""
        top = {f"accuracy_top_{rank}": value for rank, value in self.top.items()}
        return {**top, "accuracy_mean_of_classes": self.mean_of_classes}

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, every class's accuracy, what is mistaken for what, and each record's class."""
        listed = zip(self.rows, self.truth, self.said, strict=True)
        return {
            **self.flat(),
            "chance": self.chance,
            "classes": list(self.classes),
            "templates": list(self.templates),
            "per_class": self.per_class,
            "mistaken": [{"class": i, "taken_for": j, "records": n} for i, j, n in self.mistaken()],
            "said": [{"record": r, "class": self.classes[i], "taken_for": self.classes[j]} for r, i, j in listed],
        }


@dataclass(frozen=True)
class Classes:
    """The names of the classes, the templates that they are put in, and the records' field that names the right one."""

    names: tuple[str, ...]
    templates: tuple[str, ...]
    field: str

    @classmethod
    def of(cls, asker: Asker, source: Source, settings: ZeroShot, count: int) -> Classes:
        """Classes that are named, else those of the input that reads the field, else the data's own, sorted.

        Raises:
            UserError: a file is missing, a template has no `{}`, fewer than two classes, or labels that are numbers
                without names for them.
        """
        names = _lines(settings.classes)
        if names is None:
            labels_read = ((name, i) for name, i in asker.blueprint.inputs.items() if isinstance(i, LabelInput))
            of_input = (class_names(i) for name, i in labels_read if (i.field or name) == settings.label)
            names = next((known for known in of_input if known), None) or _of_data(source, settings.label, count)
        if len(names) < 2:
            raise UserError(f"only one class: {names[0]!r}")
        templates = _lines(settings.templates) or TEMPLATES
        for template in templates:
            if SLOT not in template:
                raise UserError(f"template {template!r} has no {SLOT} for the name of a class")
        return cls(names, templates, settings.label)

    def number(self, label: object, row: int) -> int | None:
        """Return the place of a record's class; None where the record has none.

        Raises:
            UserError: it is no class of these.
        """
        if label is None or (isinstance(label, ClassNumber) and label < 0):
            return None
        try:
            return self._reader(label, self.field)
        except BadRecord as error:
            raise UserError(f"record {row}: {error}") from error

    @cached_property
    def _reader(self) -> labels.Classes:
        return labels.Classes(self.names)


def evaluate_zero_shot(
    asker: Asker, source: Source, count: int = 1000, settings: ZeroShot | None = None, *, tick: Tick = silent
) -> Classification:
    """Classify the first `count` records by `image_embedding` and `text_embedding`; those without a class are left out.

    Raises:
        UserError: the blueprint lacks an output, the classes are not known, or no record has one.
    """
    from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

    embedder = Embedder.of(asker, "zero_shot")
    classes = Classes.of(asker, source, settings or ZeroShot(), count)
    size = len(classes.names)
    vectors = class_vectors(embedder, classes)
    tops = {k: MulticlassAccuracy(size, average="micro", top_k=k) for k in (1, TOP) if k == 1 or size > k}
    confusion = MulticlassConfusionMatrix(size)
    classified: list[tuple[int, int, int]] = []
    done = 0
    for rows, values in batches(asker, source, asker.inputs_read("image_embedding"), count):
        labels = zip(rows, values_of(source, rows, classes.field), strict=True)
        truth = [classes.number(label, row) for row, label in labels]
        known = [place for place, number in enumerate(truth) if number is not None]
        done += len(rows)
        tick(done)
        if not known:
            continue
        pictures = finite(asker.value_of_batch("image_embedding", values), "image_embedding").float().cpu()
        scores = F.normalize(pictures, dim=1) @ vectors.T
        labelled = torch.tensor([number for number in truth if number is not None])
        for metric in (*tops.values(), confusion):
            metric.update(scores[known], labelled)
        predicted = scores[known].argmax(1).tolist()
        classified += zip([rows[place] for place in known], labelled.tolist(), predicted, strict=True)
    if not classified:
        raise UserError(f"none of the first {count} records has a picture and a class in its field {classes.field!r}")
    numbers, truths, taken = zip(*classified, strict=True)
    return Classification(
        classes=distinct(classes.names),
        templates=classes.templates,
        rows=numbers,
        truth=truths,
        said=taken,
        top={rank: float(metric.compute()) for rank, metric in tops.items()},
        confusion=confusion.compute().numpy(),
    )


def class_vectors(embedder: Embedder, classes: Classes) -> Tensor:
    """Embed the classes [classes, width], each the normalised mean of its normalised texts."""
    texts = [template.replace(SLOT, name) for name in classes.names for template in classes.templates]
    vectors = F.normalize(embedder.texts(texts), dim=1)
    return F.normalize(vectors.unflatten(0, (len(classes.names), len(classes.templates))).mean(1), dim=1)


def _lines(written: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return a list as it is, or a file's lines."""
    return tuple(read_lines(written) if isinstance(written, str) else written) if written is not None else None


def _of_data(source: Source, field: str, count: int) -> tuple[str, ...]:
    labels = {label for label in values_of(source, range(min(count, len(source))), field) if label is not None}
    if not labels:
        raise UserError(
            f"the records have no class in a field {field!r}", hints=["`label` (`--label FIELD`) names another field"]
        )
    named = next((label.names for label in labels if isinstance(label, ClassNumber)), None)
    if named is not None:
        return named
    numbers = [label for label in labels if not isinstance(label, str)]
    if numbers:
        raise UserError(
            f"{field} is {numbers[0]!r}: a number has no name that a text could say",
            hints=["`classes` (`--classes FILE`) names the classes in the order of their numbers"],
        )
    return tuple(sorted(labels))
