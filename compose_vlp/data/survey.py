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

from compose_vlp.data.pictures import open_picture
from compose_vlp.data.source import BadRecord, Encoded, Source

CHUNK = 256
MOST_NAMED = 10
"""Repeated texts, classes and sizes that are named, the commonest."""
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


def survey(source: Source, indices: Sequence[int], tick: Callable[[int], None] = lambda _: None) -> Survey:
    """Read these records of a source, decoding their pictures; `tick` hears how many are done."""
    seen: list[_Seen] = []
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders let other threads run
        for begin in range(0, len(indices), CHUNK):
            chunk = indices[begin : begin + CHUNK]
            for index, one in zip(chunk, pool.map(lambda number: _look(source, number), chunk), strict=True):
                if isinstance(one, _Seen):
                    seen.append(one)
                else:
                    broken[index] = one
            tick(begin + len(chunk))
    return Survey(
        records=len(source),
        read=len(indices),
        broken=broken,
        pictures={name: _pictures([one.pictures[name] for one in seen if name in one.pictures])
                  for name in _names(seen, "pictures")},
        texts={name: _texts([one.texts[name] for one in seen if name in one.texts]) for name in _names(seen, "texts")},
        others={name: _values([one.others[name] for one in seen if name in one.others])
                for name in _names(seen, "others")},
    )  # fmt: skip


def spread_evenly(records: int, limit: int) -> range:
    """At most `limit` numbers of records, evenly spread; all of them, where it is 0."""
    return range(0, records, max(1, -(-records // limit)) if limit else 1)


def _look(source: Source, index: int) -> _Seen | str:
    try:
        seen = _Seen()
        for name, value in _fields(source.record(index)):
            if isinstance(value, Path | Encoded | np.ndarray | Picture):
                seen.pictures[name] = _picture(value)
            elif isinstance(value, str):
                seen.texts[name] = (value,)
            elif isinstance(value, Mapping | list | tuple) and value and all(isinstance(one, str) for one in value):
                seen.texts[name] = tuple(value)
            else:
                plain = isinstance(value, bool | int | float | np.integer | np.floating)
                seen.others[name] = str(value) if plain else None
    except BadRecord as error:
        return str(error)
    return seen


def _fields(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value once, though it has several names."""
    known: set[int] = set()
    for name, value in record.items():
        if callable(value) and id(value) in known:
            continue
        known.add(id(value))
        yield name, value() if callable(value) else value


def _picture(value: Any) -> tuple[bytes, int, int]:
    """What tells a picture from others, its width and its height."""
    if isinstance(value, Path):
        try:
            value = Encoded(value.read_bytes(), str(value))
        except OSError as error:
            raise BadRecord(str(error)) from error
    if isinstance(value, Encoded):
        width, height = open_picture(value).size
        return blake2b(value.data, digest_size=16).digest(), width, height
    pixels = np.asarray(value)
    return blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest(), pixels.shape[1], pixels.shape[0]


def _names(seen: Sequence[_Seen], kind: str) -> list[str]:
    return list(dict.fromkeys(name for one in seen for name in getattr(one, kind)))


def _pictures(found: Sequence[tuple[bytes, int, int]]) -> Pictures:
    sizes = Counter(f"{width} x {height}" for _, width, height in found)
    return Pictures(
        len(found),
        Spread.of([width for _, width, _ in found]),
        Spread.of([height for _, _, height in found]),
        len(found) - len({digest for digest, _, _ in found}),
        dict(sizes.most_common(MOST_NAMED)),
    )


def _texts(found: Sequence[tuple[str, ...]]) -> Texts:
    counts = Counter(text for texts in found for text in texts)
    total = sum(counts.values())
    repeated = {text: count for text, count in counts.most_common(MOST_NAMED) if count > 1}
    return Texts(
        total,
        Spread.of([len(texts) for texts in found]),
        Spread.of([len(text.split()) for texts in found for text in texts]),
        sum(count for text, count in counts.items() if not text.strip()),
        total - len(counts),
        repeated,
    )


def _values(found: Sequence[str | None]) -> dict[str, int] | None:
    counts = Counter(found)
    if None in counts or len(counts) > FEW:
        return None
    return {str(value): count for value, count in counts.most_common()}
