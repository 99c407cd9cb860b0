"""Looking a data set over: how many records, how large and how long, what is there twice, and what is broken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL.Image import Image as Picture

from compose_vlp.data.collate import Collator
from compose_vlp.data.pictures import open_picture, read_file
from compose_vlp.data.record_pictures import given_picture
from compose_vlp.data.source import BadRecord, Encoded, Source, clipped, shown
from compose_vlp.data.wording import checked_text

CHUNK = 256
MOST_NAMED = 10
"""Repeated texts, classes and sizes that are named, the commonest."""
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x00\x0cjP")
"""How picture files begin: columns of bytes are looked at as pictures where they begin so."""
FEW = 50
"""Up to so many different values are counted one by one."""


@dataclass(frozen=True)
class Spread:
    """The least, the middle one and the most of some numbers."""

    least: float
    median: float
    most: float

    @staticmethod
    def of(numbers: Sequence[float]) -> Spread:
        return Spread(min(numbers), median(numbers), max(numbers))


@dataclass(frozen=True)
class Pictures:
    """The pictures of a field; `copies` are those whose like came before, to the byte."""

    count: int
    width: Spread
    height: Spread
    copies: int
    sizes: dict[str, int]
    """How often the commonest sizes come."""


@dataclass(frozen=True)
class Texts:
    """The texts of a field; `copies` are those whose like came before."""

    count: int
    each: Spread
    """Texts a record."""
    words: Spread
    empty: int
    copies: int
    repeated: dict[str, int]
    """How often the commonest of those come that come more than once."""


@dataclass(frozen=True)
class Survey:
    """What was found in `read` of a source's `records`; of other fields, how often each value comes, or None."""

    records: int
    read: int
    broken: dict[int, str]
    pictures: dict[str, Pictures]
    texts: dict[str, Texts]
    others: dict[str, dict[str, int] | None]

    def as_json(self) -> dict[str, Any]:
        """All of it in plain values."""
        return {**asdict(self), "broken": {str(index): reason for index, reason in self.broken.items()}}


@dataclass(frozen=True)
class _Seen:
    """What is kept of one record: for each field its kind, and what is counted of it."""

    pictures: dict[str, tuple[bytes, int, int]] = field(default_factory=dict)
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: dict[str, str | None] = field(default_factory=dict)


def survey(
    source: Source,
    indices: Sequence[int],
    tick: Callable[[int], None] = lambda _: None,
    collator: Collator | None = None,
) -> Survey:
    """Read these records of a source, decoding their pictures.

    Args:
        source: the records.
        indices: numbers of those that are read.
        tick: hears how many are done.
        collator: what training reads records with, where that is known: a record that it refuses is broken, and what
            it does not read cannot break one. Without it, every picture and every text must be readable.
    """
    seen: list[_Seen] = []
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders let other threads run
        for begin in range(0, len(indices), CHUNK):
            chunk = indices[begin : begin + CHUNK]
            looks = pool.map(lambda number: _look(source, number, collator), chunk)
            for index, look in zip(chunk, looks, strict=True):
                if isinstance(look, _Seen):
                    seen.append(look)
                else:
                    broken[index] = look
            tick(begin + len(chunk))
    return Survey(
        records=len(source),
        read=len(indices),
        broken=broken,
        pictures={name: _pictures([record.pictures[name] for record in seen if name in record.pictures])
                  for name in _names(seen, "pictures")},
        texts={name: _texts([record.texts[name] for record in seen if name in record.texts])
               for name in _names(seen, "texts")},
        others={name: _values([record.others[name] for record in seen if name in record.others])
                for name in _names(seen, "others")},
    )  # fmt: skip


def spread_evenly(records: int, limit: int) -> range:
    """At most `limit` numbers of records, evenly spread; all of them, where it is 0."""
    return range(0, records, max(1, -(-records // limit)) if limit else 1)


def _look(source: Source, index: int, collator: Collator | None) -> _Seen | str:
    try:
        seen, record = _Seen(), dict(source.record(index))
        _call(record)
        for name, value in _different(record):
            if _is_picture(value):
                try:
                    seen.pictures[name], record[name] = _picture(value, name)
                except BadRecord:
                    if collator is None:
                        raise
            elif isinstance(value, str):
                seen.texts[name] = (value,)
            elif isinstance(value, Mapping | list | tuple) and value and all(isinstance(text, str) for text in value):
                seen.texts[name] = tuple(value)
            else:
                plain = isinstance(value, bool | int | float | np.integer | np.floating)
                seen.others[name] = shown(value) if plain else None
        if collator is None:
            _check_texts(seen)
        else:
            collator.read(record)
    except BadRecord as error:
        return str(error)
    return seen


def _check_texts(seen: _Seen) -> None:
    for name, texts in seen.texts.items():
        for text in texts:
            checked_text(text, name)


def _call(record: dict[str, Any]) -> None:
    """Fetch what a record has as functions, each once, though it may have several names."""
    results: dict[int, Any] = {}
    for name, value in record.items():
        if callable(value):
            if id(value) not in results:
                results[id(value)] = value()
            record[name] = results[id(value)]


def _different(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value once, though it has several names."""
    known: set[int] = set()
    for name, value in list(record.items()):
        if isinstance(value, bool | int | float) or id(value) not in known:
            known.add(id(value))
            yield name, value


def _is_picture(value: Any) -> bool:
    """Tell whether a value is a picture, or would be one if it were not broken."""
    if isinstance(value, np.ndarray):
        return value.ndim in (2, 3)
    if isinstance(value, bytes):
        return value.startswith(MAGIC) or value[4:8] == b"ftyp"
    if isinstance(value, Mapping):
        return isinstance(value.get("bytes"), bytes) or (set(value) == {"bytes", "path"} and value["path"] is not None)
    return isinstance(value, Path | Encoded | Picture)


def _picture(value: Any, name: str) -> tuple[tuple[bytes, int, int], Any]:
    """Return what tells a picture from others, its width and its height; and the picture, decoded."""
    given = given_picture(value, name)
    if isinstance(given, Path):
        given = read_file(given)
    if isinstance(given, Encoded):
        drawn = open_picture(given)
        return (blake2b(given.data, digest_size=16).digest(), *drawn.size), drawn
    pixels = np.asarray(given)
    digest = blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()
    return (digest, pixels.shape[1], pixels.shape[0]), given


def _names(seen: Sequence[_Seen], kind: str) -> list[str]:
    return list(dict.fromkeys(name for look in seen for name in getattr(look, kind)))


def _pictures(pictures: Sequence[tuple[bytes, int, int]]) -> Pictures:
    sizes = Counter(f"{width} x {height}" for _, width, height in pictures)
    return Pictures(
        len(pictures),
        Spread.of([width for _, width, _ in pictures]),
        Spread.of([height for _, _, height in pictures]),
        len(pictures) - len({digest for digest, _, _ in pictures}),
        dict(sizes.most_common(MOST_NAMED)),
    )


def _texts(records: Sequence[tuple[str, ...]]) -> Texts:
    counts = Counter(text for texts in records for text in texts)
    total = sum(counts.values())
    repeated = {clipped(text): count for text, count in counts.most_common(MOST_NAMED) if count > 1}
    return Texts(
        total,
        Spread.of([len(texts) for texts in records]),
        Spread.of([len(text.split()) for texts in records for text in texts]),
        sum(count for text, count in counts.items() if not text.strip()),
        total - len(counts),
        repeated,
    )


def _values(values: Sequence[str | None]) -> dict[str, int] | None:
    counts = Counter(values)
    if None in counts or len(counts) > FEW:
        return None
    return {clipped(value): count for value, count in counts.most_common()}
