"""The folder that CapFilt writes: what was asked, every text with its score, and the data set of those that were kept.

```
capfilt.json             what was asked, and of which runs: going on with anything else is refused
judged/000012.jsonl      block 12: every record with all its texts, whence they are, their scores, and whether kept
pictures/000012/*        its pictures of which a text was kept   (form jsonl)
captions.jsonl           pictures with their kept texts: the data set, once all blocks are there   (form jsonl)
shards/000012.tar        block 12 of the data set   (form webdataset)
```
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from compose_vlp.capfilt.pictures import File
from compose_vlp.capfilt.settings import Form
from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic

Origin: TypeAlias = Literal["web", "synthetic"]

FORMAT: Final = 1
SETTINGS: Final = "capfilt.json"
DATA: Final = "captions.jsonl"


@dataclass(frozen=True)
class Judged:
    """A text of a picture.

    `run` wrote it, from draws that start at `seed` (None of the web's); `score` is None where nothing of it is left in
    the filter's words.
    """

    text: str
    origin: Origin
    score: float | None
    kept: bool
    run: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Record:
    """A record of the source with the texts that were judged; `broken` says why it could not be used."""

    number: int
    id: str | int | None = None
    texts: tuple[Judged, ...] = ()
    picture: File | None = None
    broken: str | None = None

    @property
    def kept(self) -> tuple[Judged, ...]:
        return tuple(text for text in self.texts if text.kept)

    def as_json(self) -> dict[str, Any]:
        """Everything but the picture."""
        named = {"record": self.number} | ({"id": self.id} if self.id is not None else {})
        if self.broken is not None:
            return {**named, "broken": self.broken}
        return {**named, "texts": [asdict(text) for text in self.texts]}


class Folder:
    """Where a run of CapFilt writes, block by block; a block is there whole or not at all."""

    def __init__(self, path: Path, form: Form) -> None:
        self.path = path
        self.form = form

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Start, or go on where the same was asked before; as long as no block is done, anything may be asked anew.

        Raises:
            UserError: the folder holds other things, or was begun with other settings.
        """
        file, described = self.path / SETTINGS, {"format": FORMAT, **settings}
        if any((self.path / "judged").glob("*.jsonl")):
            _same(file, json.loads(file.read_text(encoding="utf-8")), described)
            return
        if not file.is_file() and self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"{self.path} is in use", hints=["`--out` takes a new folder, or one to go on with"])
        (self.path / "judged").mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(described, indent=2, ensure_ascii=False) + "\n")

    def has(self, block: int) -> bool:
        """Tell whether a block is done."""
        return self._judged(block).is_file()

    def write(self, block: int, records: Sequence[Record]) -> None:
        """Write a block: its pictures first, and last the file that says that it is done."""
        kept = [record for record in records if record.kept]
        if self.form == "webdataset":
            self._write_shard(block, kept)
        else:
            self._write_pictures(block, kept)
        lines = [
            record.as_json() | ({"image": self._picture(block, record)} if record.kept and self.form == "jsonl" else {})
            for record in records
        ]
        write_atomic(self._judged(block), "".join(f"{_line(line)}\n" for line in lines))

    def judged(self, blocks: int) -> Iterator[dict[str, Any]]:
        """Yield the lines of the blocks that are done, in the order of the records."""
        for block in range(blocks):
            if self.has(block):
                for line in self._judged(block).read_text(encoding="utf-8").splitlines():
                    yield json.loads(line)

    def finish(self, blocks: int) -> Path | None:
        """Put the data set together, where all blocks are done; gives what to read it from (None: not all are)."""
        if not all(self.has(block) for block in range(blocks)):
            return None
        if self.form == "webdataset":
            return self.path / "shards" / "*.tar"
        lines = (_line(_of_data_set(record)) for record in self.judged(blocks) if "image" in record)
        write_atomic(self.path / DATA, "".join(f"{line}\n" for line in lines))
        return self.path / DATA

    def _judged(self, block: int) -> Path:
        return self.path / "judged" / f"{block:06d}.jsonl"

    def _picture(self, block: int, record: Record) -> str:
        assert record.picture is not None, "a kept text has a picture"
        return f"pictures/{block:06d}/{record.number:09d}{record.picture.ending}"

    def _write_pictures(self, block: int, records: Sequence[Record]) -> None:
        folder = self.path / "pictures" / f"{block:06d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        folder.mkdir(parents=True)
        for record in records:
            assert record.picture is not None
            (self.path / self._picture(block, record)).write_bytes(record.picture.data)

    def _write_shard(self, block: int, records: Sequence[Record]) -> None:
        """Members are written with no owner and no time, so that equal blocks are equal files."""
        if not records:
            return
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for record in records:
                assert record.picture is not None
                described = _line(_of_data_set(record.as_json())).encode()
                for ending, data in ((record.picture.ending, record.picture.data), (".json", described)):
                    member = tarfile.TarInfo(f"{record.number:09d}{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        (self.path / "shards").mkdir(exist_ok=True)
        write_atomic(self.path / "shards" / f"{block:06d}.tar", stream.getvalue())


def _of_data_set(judged: Mapping[str, Any]) -> dict[str, Any]:
    """Write a line of the data set: `caption` has the kept texts, one drawn in training, `texts` whence they are."""
    kept = [text for text in judged["texts"] if text["kept"]]
    first = {key: judged[key] for key in ("image", "id") if key in judged}
    texts = [{key: value for key, value in text.items() if key != "kept"} for text in kept]
    return {**first, "caption": [text["text"] for text in kept], "texts": texts, "record": judged["record"]}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _same(file: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    settings = json.loads(json.dumps(now))
    other = [
        f"{key}: {before.get(key)} there, {settings.get(key)} now"
        for key in settings
        if before.get(key) != settings[key]
    ]
    if other:
        raise UserError(
            f"{file.parent} was begun with other settings", hints=[*other, "`--out` of another folder begins anew"]
        )
