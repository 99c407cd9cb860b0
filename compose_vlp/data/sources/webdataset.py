"""Tar shards of the WebDataset form, as img2dataset and others write them: any record at any time."""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from compose_vlp.data.kept import ROOM, Kept, KeptFile, default_folder
from compose_vlp.data.places import PICTURES, find_shards
from compose_vlp.data.shards import Shard, default_cache, opened_shards
from compose_vlp.data.source import BadRecord, Encoded, Record, Runs, Source
from compose_vlp.data.stores import Stored, is_address
from compose_vlp.errors import UserError
from compose_vlp.files import decoded, written_path
from compose_vlp.readable import storage
from compose_vlp.registry import Settings, source

PICTURE_ENDINGS = frozenset(ending[1:] for ending in PICTURES)
PICKLES = frozenset({"pickle", "pkl", "pyd"})
"""Endings of members in Python's own format: to read one is to run what it says."""


@source("webdataset")
class WebDataset(Source):
    """Records of tar shards: members of one name. The headers are read once, then every record is had directly.

    Fields of a record: `image`, where it has one picture; `caption` from `.txt`; the keys of `.json`, where none of
    these is called so; `label` from `.cls`; `key`, the name; and every member by its ending (`jpg`, `seg.png`), as
    bytes where it is none of those. A shard that ends early loses its last record, which is counted as a broken one.
    Members that are pickles are refused.
    """

    class Config(Settings):
        """Which shards."""

        path: str | tuple[str, ...] = Field(
            description="shards, not compressed: `web-{00000..00099}.tar`, `web-*.tar`, or a list of such; on disk, or "
            "in a store: `s3://bucket/web-{00000..00099}.tar`, `gs://`, `hf://`, `https://`"
        )
        cache: str | None = Field(
            None,
            description="folder that keeps indices, and shards of stores; ~/.cache/compose-vlp if left out",
        )
        index: str | None = Field(
            None,
            description="folder, in a store too, that keeps where everything lies in place of the cache: read once for "
            "all machines",
        )
        keep_gb: float = Field(
            ROOM / 1e9,
            gt=0,
            description="gigabytes of disk for shards of stores: those that are read, and as many that are read next",
        )
        at_once: int = Field(16, ge=1, description="shards of a store that are read, and shuffled among, at once")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        folder = written_path(config.cache) if config.cache is not None else None
        kept = Kept(folder / "files" if folder else default_folder(), int(config.keep_gb * 1e9))
        indices: Path | str = folder or default_cache()
        if config.index is not None:
            indices = config.index.rstrip("/") if is_address(config.index) else written_path(config.index)
        files = find_shards(config.path, kept)
        self.shards = opened_shards(files, indices)
        for shard in self.shards:
            _refuse_pickles(shard)
        self.ends = list(accumulate(len(shard) for shard in self.shards))
        fetched = [file.stored for file in files if isinstance(file, KeptFile)]
        if fetched:
            at_once = _at_once(config, max(fetched, key=lambda stored: stored.size), len(files))
            self.runs = (Runs(np.array(self.ends, np.int64), at_once),)

    def __len__(self) -> int:
        return self.ends[-1]

    def record(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        shard, place = self._place(index)
        return _record(shard, shard.key(place), shard.members(place))

    def _place(self, index: int) -> tuple[Shard, int]:
        number = bisect_right(self.ends, index)
        return self.shards[number], index - (self.ends[number - 1] if number else 0)

    def text_bytes(self, index: int, field: str) -> int | None:
        shard, place = self._place(index)
        _, size = shard.members(place).get("txt" if field == "caption" else field, (0, None))
        return size

    def fetch(self, index: int) -> None:
        shard = self.shards[bisect_right(self.ends, index)]
        if isinstance(shard.path, KeptFile):
            shard.fetch()


def _at_once(config: WebDataset.Config, largest: Stored, shards: int) -> int:
    """Compute how many shards are read at once: as many are fetched ahead, and all of them are kept."""
    room = int(config.keep_gb * 1e9) // max(2 * largest.size, 1)
    if room < 1:
        raise UserError(
            f"`keep_gb: {config.keep_gb:g}` has no room for two shards of {storage(largest.size)} ({largest})",
            hints=[f"one is read while the next is fetched: `keep_gb: {2.1e-9 * largest.size:.2g}` or more"],
        )
    return min(config.at_once, shards, room)


def _record(shard: Shard, key: str, members: dict[str, tuple[int, int]]) -> Record:
    name = f"{shard.path}:{key}"
    fields: dict[str, Any] = {}
    for ending, (offset, size) in members.items():
        last = ending.rpartition(".")[2]
        if last in PICTURE_ENDINGS:
            fields[ending] = partial(_picture, shard, offset, size, f"{name}.{ending}")
        elif last == "json":
            fields[ending] = _json(shard.read(offset, size), f"{name}.{ending}")
        elif last in ("txt", "text", "cls"):
            fields[ending] = _text(shard.read(offset, size), f"{name}.{ending}")
        else:
            fields[ending] = partial(shard.read, offset, size)
    return {**_named(fields, name), **fields, "key": key}


def _named(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Name the fields that inputs of blueprints look for, from what the members are."""
    named: dict[str, Any] = {}
    described = fields.get("json")
    if isinstance(described, dict):
        named.update(described)
    pictures = [ending for ending in fields if ending in PICTURE_ENDINGS]
    if len(pictures) == 1:
        named["image"] = fields[pictures[0]]
    if "txt" in fields:
        named["caption"] = fields["txt"]
    if "cls" in fields:
        try:
            named["label"] = int(fields["cls"])
        except ValueError as error:
            raise BadRecord(f"{name}.cls: {error}") from error
    return named


def _picture(shard: Shard, offset: int, size: int, name: str) -> Encoded:
    return Encoded(shard.read(offset, size), name)


def _text(data: bytes, name: str) -> str:
    try:
        return decoded(data).strip()
    except UnicodeDecodeError as error:
        raise BadRecord(f"{name} is no text in UTF-8: {error}") from error


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{name} is no JSON: {error}") from error


def _refuse_pickles(shard: Shard) -> None:
    for kind in dict.fromkeys(shard.kinds.tolist()):
        if kind.rpartition(".")[2] in PICKLES:
            raise UserError(
                f"{shard.path} has members `.{kind}`, which are pickles: whoever made them could run code here",
                hints=["make shards without them: text as .txt, numbers as .json, pictures as .jpg or .png"],
            )
