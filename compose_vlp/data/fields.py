"""How each type of input reads a record's field, and how a batch of what it read becomes values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from typing_extensions import override

from compose_vlp.blueprint.inputs import IdInput, ImageInput, Input, LabelInput, TextInput
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.corpus import find_tokenizer
from compose_vlp.data.draws import Draws
from compose_vlp.data.labels import Classes, read_id, read_number
from compose_vlp.data.pictures import open_reduced
from compose_vlp.data.record_pictures import given_picture, pictures_in
from compose_vlp.data.source import BadRecord, Encoded, shown
from compose_vlp.data.tables import class_names, read_table
from compose_vlp.data.transforms import ImageTransform, Pixels
from compose_vlp.data.wording import MOST_LETTERS, checked_text, prepared
from compose_vlp.values import Image, Index, Number, Text, Value

Ids = list[int]
Chance: TypeAlias = Callable[[], Draws]
"""Begins the record's stream of random numbers: called only where something is drawn."""


class Field(ABC):
    """One input: reads the field `name` of records, and stacks what it read of a batch into values by name."""

    def __init__(self, input_name: str, settings: Input) -> None:
        self.input = input_name
        self.name = settings.field or input_name
        self.key = input_name
        """Names the stream of random numbers; inputs of equal keys draw alike."""
        self.pads = False
        """Whether a batch is padded to its longest record here."""

    @abstractmethod
    def read(self, value: Any, chance: Chance | None) -> Any:
        """Read what the batch needs of one record's value; `chance` is given in training.

        Raises:
            BadRecord: the value is none that this input can read.
        """

    @abstractmethod
    def stack(self, items: Sequence[Any]) -> dict[str, Value]:
        """Stack items into the values of a batch."""

    def length(self, value: Any, chance: Chance | None) -> float:
        """Tell how long what is read of a value makes its batch, before any of it is encoded; pictures are of one size.

        Raises:
            BadRecord: there is nothing to read.
        """
        del value, chance
        return 0.0


class ImageField(Field):
    """A picture, `[size, size, 3]` a record, normalised in the batch."""

    def __init__(self, input_name: str, settings: ImageInput) -> None:
        super().__init__(input_name, settings)
        self.key = f"view {settings.view}" if settings.view is not None else input_name
        self.augments = settings.augment is not None
        self.transform = ImageTransform(settings)

    def read(self, value: Any, chance: Chance | None) -> Pixels:
        several = pictures_in(value)
        if several is not None:
            value = _drawn(several, self.name, chance)
        draws = chance() if chance is not None and self.augments else None
        picture = given_picture(value, self.name)
        if isinstance(picture, Path | Encoded):
            opened = open_reduced(picture, None if chance is None else self.transform.reducible)
            return self.transform(opened.picture, draws, (opened.width, opened.height))
        return self.transform(picture, draws)

    def stack(self, items: Sequence[Pixels]) -> dict[str, Value]:
        return {self.input: Image(self.transform.normalise(np.stack(items)))}


class _Texts(Field):
    """What fields of one and of many texts have in common."""

    def __init__(self, input_name: str, settings: TextInput, tokenizer: Tokenizer) -> None:
        super().__init__(input_name, settings)
        self.settings = settings
        self.tokenizer = tokenizer
        self.pads = settings.pad == "longest"

    def written_length(self, text: object) -> float:
        """Count a text's words; of as many words, the one of more letters is longer, and so is any without spaces."""
        return len(text.split()) + len(text) / MOST_LETTERS if isinstance(text, str) else 0.0

    def encode(self, value: Any) -> Ids:
        """Encode one text as ids.

        What is a text, is decided here: a tokenizer that raises on one is at fault, and not the record.
        """
        words = prepared(checked_text(value, self.name), self.settings)
        length, end = self.settings.max_length, self.settings.end
        ids = self.tokenizer.encode(words, length, end=end) if words.strip() else []
        if not ids:
            raise BadRecord(f"{self.name} is empty")
        return ids

    def text(self, items: Sequence[Ids]) -> Text:
        """Texts as one value, padded to the longest of them (or to the frame, where the input says so)."""
        import torch

        frame, pad = self.settings.max_length, self.tokenizer.pad_id
        lengths = torch.tensor([len(ids) for ids in items], dtype=torch.int64)
        longest = int(lengths.max()) + self.settings.spare
        width = frame if self.settings.pad == "frame" else min(frame, longest)
        ids = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in items], dtype=torch.int64)
        return Text(ids, lengths, frame=frame, pad=pad)


class TextField(_Texts):
    """One text a record."""

    def read(self, value: Any, chance: Chance | None) -> Ids:
        return self.encode(self._drawn(value, chance))

    @override
    def length(self, value: Any, chance: Chance | None) -> float:
        return self.written_length(self._drawn(value, chance))

    def _drawn(self, value: Any, chance: Chance | None) -> Any:
        return _drawn(value, self.name, chance) if isinstance(value, list | tuple) else value

    def stack(self, items: Sequence[Ids]) -> dict[str, Value]:
        return {self.input: self.text(items)}


class ManyTextsField(_Texts):
    """Several texts a record, in rows of their own; `.owner` is the record's row, `.weight` the text's share of it."""

    @override
    def read(self, value: Any, chance: Chance | None) -> list[tuple[Ids, float]]:
        return [(self.encode(text), weight) for text, weight in self._weighted(value).items()]

    @override
    def length(self, value: Any, chance: Chance | None) -> float:
        return max(map(self.written_length, [value] if isinstance(value, str) else value), default=0.0)

    def stack(self, items: Sequence[list[tuple[Ids, float]]]) -> dict[str, Value]:
        import torch

        flat = [(row, ids, weight) for row, texts in enumerate(items) for ids, weight in texts]
        owner = torch.tensor([row for row, _, _ in flat], dtype=torch.int64)
        weight = torch.tensor([share for _, _, share in flat], dtype=torch.float32)
        return {
            self.input: self.text([ids for _, ids, _ in flat]),
            f"{self.input}.owner": Index(owner),
            f"{self.input}.weight": Number(weight),
        }

    def _weighted(self, value: Any) -> dict[str, float]:
        """Each different text with its weight; of a plain list, its share of the list (VQAv2's ten annotators)."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Mapping | list | tuple) or not texts:
            raise BadRecord(f"{self.name} is {shown(value)}, not a list of texts")
        if isinstance(texts, Mapping):
            return {
                text: read_number(weight, f"{self.name}, weight of {shown(text)}") for text, weight in texts.items()
            }
        shares: dict[str, float] = {}
        for text in texts:
            if not isinstance(text, str):
                raise BadRecord(f"{self.name} holds {shown(text)}, not a text")
            shares[text] = shares.get(text, 0.0) + 1 / len(texts)
        return shares


class NumberField(Field):
    """A number a record; what one is, the type of input says."""

    def __init__(self, input_name: str, settings: Input, convert: Callable[[Any, str], float]) -> None:
        super().__init__(input_name, settings)
        self.convert = convert

    @override
    def read(self, value: Any, chance: Chance | None) -> float:
        return self.convert(value, self.name)

    def stack(self, items: Sequence[float]) -> dict[str, Value]:
        import torch

        dtype = torch.float32 if self.convert is read_number else torch.int64
        return {self.input: Number(torch.tensor(items, dtype=dtype))}


class ManyLabelsField(Field):
    """Several classes a record, in rows of their own; `.owner` is the record's row, `.weight` the soft score."""

    def __init__(self, input_name: str, settings: LabelInput) -> None:
        super().__init__(input_name, settings)
        self.classes = Classes(class_names(settings), settings.count)
        self.counts = settings.weigh == "vqa"

    @override
    def read(self, value: Any, chance: Chance | None) -> dict[int, float]:
        scores: dict[int, float] = {}
        for label, weight in self._weighted(value):
            if self.counts and isinstance(label, str) and self.classes.names and label not in self.classes.places:
                continue  # most questions have an answer or two that is none of the common ones
            number = self.classes(label, self.name)
            scores[number] = scores.get(number, 0.0) + weight
        if not scores:
            raise BadRecord(f"{self.name} has none of the {len(self.classes.names)} classes")
        if self.counts:
            scores = {number: vqa_score(count) for number, count in scores.items()}
        for number, score in scores.items():
            if not 0 <= score <= 1 + 1e-6:
                raise BadRecord(f"{self.name}: class {number} weighs {score:g}, not from 0 to 1")
        return {number: min(score, 1.0) for number, score in scores.items()}

    def stack(self, items: Sequence[dict[int, float]]) -> dict[str, Value]:
        import torch

        flat = [(row, number, score) for row, scores in enumerate(items) for number, score in scores.items()]
        rows, numbers, scores = zip(*flat, strict=True)
        return {
            self.input: Number(torch.tensor(numbers, dtype=torch.int64)),
            f"{self.input}.owner": Index(torch.tensor(rows, dtype=torch.int64)),
            f"{self.input}.weight": Number(torch.tensor(scores, dtype=torch.float32)),
        }

    def _weighted(self, value: Any) -> list[tuple[Any, float]]:
        """Classes as the record has them, each with its weight or count."""
        if isinstance(value, Mapping) and value:
            return [(label, self._weight(label, weight)) for label, weight in value.items()]
        labels = value if isinstance(value, list | tuple) else [value]
        if not labels or isinstance(value, Mapping):
            raise BadRecord(f"{self.name} is {shown(value)}, not a list of classes")
        return [(label, 1.0 if self.counts else 1 / len(labels)) for label in labels]

    def _weight(self, label: Any, weight: Any) -> float:
        number = read_number(weight, f"{self.name}, weight of {shown(label)}")
        if self.counts and (number < 1 or number != int(number)):
            raise BadRecord(f"{self.name}: {shown(label)} has {number:g}, not a count of annotators")
        return number


def vqa_score(count: float) -> float:
    """Score an answer that so many of ten annotators gave: VQAv2's accuracy, averaged over nine of them."""
    return min(1.0, round(0.3 * count, 1))


def make_field(name: str, settings: Input, tokenizers: Mapping[str, Tokenizer]) -> Field:
    """Make the field that an input reads.

    Raises:
        UserError: a text's tokenizer is not among `tokenizers`.
    """
    if isinstance(settings, ImageInput):
        return ImageField(name, settings)
    if isinstance(settings, TextInput):
        tokenizer = find_tokenizer(name, settings, tokenizers)
        return (ManyTextsField if settings.many else TextField)(name, settings, tokenizer)
    if isinstance(settings, LabelInput) and settings.many:
        return ManyLabelsField(name, settings)
    if isinstance(settings, LabelInput):
        return NumberField(name, settings, Classes(class_names(settings), settings.count))
    return NumberField(name, settings, read_id if isinstance(settings, IdInput) else read_number)


def table_values(
    name: str, settings: TextInput, tokenizers: Mapping[str, Tokenizer], lines: Sequence[str] | None = None
) -> dict[str, Value]:
    """Make the constant values of an input with a table: its texts, and as `.owner` the line that each phrase is of.

    `lines` stand in the place of the file's.
    """
    import torch

    texts, lines_of = read_table(settings, lines)
    field = TextField(name, settings, find_tokenizer(name, settings, tokenizers))
    text = field.text([field.encode(line) for line in texts])
    return {name: text, f"{name}.owner": Index(torch.tensor(lines_of, dtype=torch.int64))}


def _drawn(several: Sequence[Any], field: str, chance: Chance | None) -> Any:
    """Of several texts or pictures one: by chance in training, else the first."""
    if not several:
        raise BadRecord(f"{field} is an empty list")
    return chance().pick(several) if chance is not None else several[0]
