"""The texts of a source, and tokenizers trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compose_vlp.blueprint.inputs import Input, TextInput
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.source import BadRecord, Source, clipped
from compose_vlp.data.tables import read_table
from compose_vlp.data.wording import is_text
from compose_vlp.errors import UserError, did_you_mean

MOST_RECORDS = 50_000


def texts_of(source: Source, fields: Sequence[str], most: int = MOST_RECORDS) -> Iterator[str]:
    """All texts in these fields of at most `most` records, spread evenly over the source; pictures stay unread."""
    stride = -(-len(source) // most)
    for index in range(0, len(source), stride):
        try:
            record = source.record(index)
            values = [record[field] for field in fields if field in record]
            yield from (text for value in values for text in _texts(value() if callable(value) else value))
        except BadRecord:
            continue  # counted where batches are read


def prepare_tokenizers(
    tokenizers: Mapping[str, Tokenizer],
    inputs: Mapping[str, Input],
    sources: Mapping[str, Source],
    most: int = MOST_RECORDS,
) -> tuple[str, ...]:
    """Make every tokenizer ready: those without a vocabulary learn one from the texts that their inputs read.

    Args:
        tokenizers: by name.
        inputs: all inputs, by name.
        sources: by the name that inputs give them (`main`).
        most: records of a source that are read, spread evenly over it.

    Returns:
        The names of those that were trained.

    Raises:
        UserError: a tokenizer to be trained has no input, its inputs hold no text, or it did not learn a token that its
            settings name.
    """
    untrained = [name for name, tokenizer in tokenizers.items() if not tokenizer.ready]
    for name in untrained:
        readers = {
            n: reader for n, reader in inputs.items() if isinstance(reader, TextInput) and reader.tokenizer == name
        }
        corpus = list(_corpus(readers, sources, most))
        if not corpus:
            hint = f"components.{name}.file: a vocabulary"
            if not readers:
                raise UserError(f"tokenizer {name!r} has no file, and no input with text to learn from", hints=[hint])
            reasons = [
                _why_no_text(settings.field or reader, sources[settings.source])
                for reader, settings in readers.items()
                if settings.table is None
            ]
            raise UserError(
                f"tokenizer {name!r} learns its words from the records, and none has a text: {'; '.join(reasons)}",
                hints=["`compose-vlp data` looks a data set over", hint],
            )
        tokenizers[name].train(corpus)
        tokenizers[name].special  # noqa: B018 - a token that was not learnt is missed here, not stages later
    for name, settings in inputs.items():
        if isinstance(settings, TextInput):
            find_tokenizer(name, settings, tokenizers)
    return tuple(untrained)


def find_tokenizer(name: str, settings: TextInput, tokenizers: Mapping[str, Tokenizer]) -> Tokenizer:
    """Find the tokenizer that an input names."""
    if settings.tokenizer not in tokenizers:
        hints = did_you_mean(settings.tokenizer, tokenizers)
        raise UserError(f"input {name!r} names the tokenizer {settings.tokenizer!r}, which is not there", hints=hints)
    return tokenizers[settings.tokenizer]


def _corpus(readers: Mapping[str, TextInput], sources: Mapping[str, Source], most: int) -> Iterator[str]:
    """Yield the texts of tables, then those of each source."""
    fields: dict[str, list[str]] = {}
    for name, settings in readers.items():
        if settings.table is not None:
            yield from read_table(settings)[0]
        else:
            fields.setdefault(settings.source, []).append(settings.field or name)
    for source, names in fields.items():
        if source not in sources:
            raise UserError(f"input source {source!r} is not among those given: {', '.join(sources)}")
        yield from texts_of(sources[source], names, most)


def _why_no_text(field: str, source: Source) -> str:
    """Say of the first record why its field is no text."""
    try:
        record = source.record(0)
        value = record[field]() if callable(record.get(field)) else record.get(field)
    except BadRecord as error:
        return f"record 0: {error}"
    if value is None:
        return f"record 0 has no `{field}`: it has {', '.join(record)}"
    return f"record 0: {field} is {clipped(value, 60)}, not text"


def _texts(value: object) -> Iterator[str]:
    several = value if isinstance(value, Mapping | list | tuple) else (value,)
    yield from (text for text in several if is_text(text))
