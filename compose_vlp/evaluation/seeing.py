"""What a model sees of a data set: its records after augmentation and tokenizing, as they stand in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compose_vlp.blueprint.inputs import Input, TextInput
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.collate import Collator
from compose_vlp.data.corpus import prepare_tokenizers, texts_of
from compose_vlp.data.fields import ImageField, ManyTextsField, TextField
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.data.survey import Spread, spread_evenly
from compose_vlp.data.wording import prepared
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.sources import MAIN, declared_source, last_data, open_tokenizers

VIEWS = 3
"""Epochs whose augmentation is shown."""
WHOLE = 1_000_000
"""Tokens that no text has."""


@dataclass(frozen=True)
class TokenLengths:
    """Tokens of an input's texts before they are cut at the frame, and the share that is cut."""

    lengths: Spread
    frame: int
    cut: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Tokens:
    """One text as the model gets it: words of its ids, and so many columns of padding in the batch shown."""

    words: tuple[str, ...]
    padding: int


@dataclass(frozen=True)
class Example:
    """One record: for each image input `[size, size, 3]` as evaluated and then as trained on; texts; other values."""

    index: int
    plain: dict[str, NDArray[np.uint8]]
    trained: dict[str, list[NDArray[np.uint8]]]
    texts: dict[str, list[Tokens]]
    others: dict[str, str]


@dataclass(frozen=True)
class Sight:
    """An entry of `data` with the inputs that it feeds; `notes` say which inputs it has no fields for."""

    name: str
    source: Source
    inputs: Mapping[str, Input]
    tokenizers: Mapping[str, Tokenizer]
    notes: tuple[str, ...]

    def collator(self) -> Collator:
        """Make the collator with which evaluation reads these records."""
        return Collator(self.inputs, self.tokenizers)

    def token_lengths(self, limit: int) -> dict[str, TokenLengths]:
        """Of each text input, over records evenly spread."""
        spreads = {}
        for name, settings in self.inputs.items():
            if isinstance(settings, TextInput):
                tokenizer = self.tokenizers[settings.tokenizer]
                texts = texts_of(self.source, [settings.field or name], limit or len(self.source))
                lengths = [len(tokenizer.encode(prepared(text, settings), WHOLE, end=settings.end)) for text in texts]
                if lengths:
                    cut = sum(length > settings.max_length for length in lengths) / len(lengths)
                    spreads[name] = TokenLengths(Spread.of(lengths), settings.max_length, cut)
        return spreads

    def examples(self, count: int, seed: int = 0) -> list[Example]:
        """Records evenly spread, without those that are broken; augmented as the first epochs of that seed do."""
        plain, trained = (Collator(self.inputs, self.tokenizers, seed=seed, train=train) for train in (False, True))
        read: list[tuple[int, list[Any], list[list[Any]]]] = []
        for index in spread_evenly(len(self.source), count):
            try:
                record = self.source.record(index)
                views = [trained.read(record, epoch, index) for epoch in range(VIEWS)]
                read.append((index, plain.read(record), views))
            except BadRecord:
                continue
        width = {field.input: _longest(field, [items[place] for _, items, _ in read])
                 for place, field in enumerate(plain.fields)}  # fmt: skip
        return [_example(plain, index, items, views, width) for index, items, views in read]


def see(blueprint: CheckedBlueprint, data: str | None = None) -> Sight:
    """Open an entry of `data`, or the last stage's, with the inputs that read it; untrained tokenizers learn from it.

    Raises:
        UserError: there is no such entry, its data is not there, or no input can read it.
    """
    name, source_name = _entry(blueprint, data)
    source = declared_source(blueprint, name)
    inputs, notes = _readable(blueprint, source, source_name)
    used = {settings.tokenizer for settings in inputs.values() if isinstance(settings, TextInput)}
    tokenizers = {known: tokenizer for known, tokenizer in open_tokenizers(blueprint).items() if known in used}
    prepare_tokenizers(tokenizers, inputs, {source_name: source})
    return Sight(name, source, inputs, tokenizers, notes)


def opened(blueprint: CheckedBlueprint, data: str | None = None) -> tuple[str, Source, bool]:
    """Open an entry of `data`, or the last stage's: its name, its source, and whether any record looked at has fields.

    Raises:
        UserError: there is no such entry, or its data is not there.
    """
    name, _ = _entry(blueprint, data)
    source = declared_source(blueprint, name)
    return name, source, bool(_fields(source))


def _entry(blueprint: CheckedBlueprint, data: str | None) -> tuple[str, str]:
    """Return the entry of `data`, and the name by which inputs know it (`main`)."""
    stages = list(blueprint.stages.values())
    fed = {
        entry: source
        for stage in stages
        for source, entry in ({MAIN: stage.data} if isinstance(stage.data, str) else stage.data).items()
    }
    if data is not None:
        return data, fed.get(data, MAIN)
    name = last_data(blueprint)
    return name, fed[name]


def _readable(
    blueprint: CheckedBlueprint, source: Source, source_name: str
) -> tuple[dict[str, Input], tuple[str, ...]]:
    """List the inputs whose fields the records have, and a note on each other input."""
    fields = _fields(source)
    inputs: dict[str, Input] = {}
    notes = []
    for name, settings in blueprint.inputs.items():
        if settings.source != source_name or (isinstance(settings, TextInput) and settings.table is not None):
            continue
        field = settings.field or name
        if field in fields:
            inputs[name] = settings
        else:
            notes.append(f"input {name!r} reads the field {field!r}, which the records do not have")
    if not inputs:
        raise UserError("no input reads a field of these records", hints=[*notes, f"fields: {', '.join(fields)}"])
    return inputs, tuple(notes)


def _fields(source: Source) -> list[str]:
    for index in spread_evenly(len(source), 50):
        try:
            return [str(name) for name in source.record(index)]
        except BadRecord:
            continue
    return []


def _example(
    collator: Collator, index: int, items: Sequence[Any], views: Sequence[Sequence[Any]], width: Mapping[str, int]
) -> Example:
    example = Example(index, {}, {}, {}, {})
    for place, field in enumerate(collator.fields):
        if isinstance(field, ImageField):
            example.plain[field.input] = items[place]
            example.trained[field.input] = [view[place] for view in views] if field.augments else []
        elif isinstance(field, TextField | ManyTextsField):
            example.texts[field.input] = [
                Tokens(tuple(tokens_of(field.tokenizer, ids)), width[field.input] - len(ids))
                for ids in _texts(field, items[place])
            ]
        else:
            example.others[field.input] = str(items[place])
    return example


def _longest(field: Any, items: Sequence[Any]) -> int:
    """Columns of the batch that these records make."""
    if not isinstance(field, TextField | ManyTextsField):
        return 0
    texts = [ids for item in items for ids in _texts(field, item)]
    return field.text(texts).ids.shape[1] if texts else 0


def _texts(field: TextField | ManyTextsField, item: Any) -> list[list[int]]:
    return [ids for ids, _ in item] if isinstance(field, ManyTextsField) else [item]


def tokens_of(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
    """Write what each id stands for: a special token by its name, a word or a piece of one."""
    special = {number: token for token, number in tokenizer.special.items()}
    for number in ids:
        yield special.get(number) or tokenizer.decode([number]) or str(number)
