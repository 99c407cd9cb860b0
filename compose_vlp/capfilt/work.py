"""Captioning and filtering a source, block by block: what is done is not done again, whoever does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from compose_vlp.capfilt.captioner import Captioner
from compose_vlp.capfilt.folder import Folder, Judged, Record
from compose_vlp.capfilt.judges import Judge
from compose_vlp.capfilt.pictures import as_file
from compose_vlp.capfilt.settings import Settings, Shard
from compose_vlp.data.loader import JUDGED_FROM, Loader, too_many_skipped
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import texts_in
from compose_vlp.files import ProcessLock

BATCH: Final = 32
"""Pictures that are captioned and judged at once."""

Tick: TypeAlias = Callable[[int], None]
"""Told how many records of this part are done."""


@dataclass(frozen=True)
class Counts:
    """Texts of one origin: how many were judged, and how many of them kept."""

    judged: int
    kept: int

    @property
    def share(self) -> float:
        """Return the share that was kept; 0 where there was none."""
        return self.kept / self.judged if self.judged else 0.0


@dataclass(frozen=True)
class Summary:
    """What stands in a folder: records, the broken ones of them, texts, and the data set (None: parts are missing)."""

    records: int
    broken: int
    pictures: int
    web: Counts
    synthetic: Counts
    data: Path | None

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {**asdict(self), "data": str(self.data) if self.data is not None else None}


def capfilt(
    source: Source,
    judge: Judge,
    captioner: Captioner | None,
    out: Path,
    settings: Settings,
    *,
    described: Mapping[str, Any],
    shard: Shard | None = None,
    tick: Tick = lambda _: None,
) -> Summary:
    """Write texts for the source's pictures, keep those texts that fit, and write them with their pictures into `out`.

    Run again with the same settings it does what is missing. Parts may be done by several processes, also on several
    machines that share the folder; the one that does the last block puts the data set together. Draws depend on the
    seed and the record alone.

    Args:
        source: pictures, with the web's texts where `settings.texts` wants them.
        judge: the filter.
        captioner: what writes texts; None where only the web's are judged.
        out: the folder.
        settings: what is judged, and what becomes of it.
        described: the source in words that tell it from others, for `capfilt.json`.
        shard: the part that this process does; all of it, if left out.
        tick: told the progress.

    Raises:
        UserError: the folder was begun with other settings, another process does this part, an input's field is in no
            record, too many records are broken, or no text at all was kept.
    """
    part, folder = shard or Shard(), Folder(out, settings.form)
    work = _Work(source, judge, captioner, settings)
    work.check_fields()
    folder.begin(_asked(source, judge, captioner, settings, described))
    lock = ProcessLock(out / f"part-{part.number}-of-{part.count}.lock")
    if not lock.try_acquire():
        raise UserError(f"another process does part {part} in {out}", hints=["`--shard 0/2` and `1/2` share the work"])
    try:
        return _run(folder, work, part, tick)
    finally:
        lock.release()


def _run(folder: Folder, work: _Work, part: Shard, tick: Tick) -> Summary:
    done = 0
    for block in part.blocks(work.blocks):
        records = work.rows(block)
        if not folder.has(block):
            folder.write(block, list(work.block(records, partial(_forward, tick, done))))
        done += len(records)
        tick(done)
    summary = summarise(folder, work.blocks)
    if summary.data is not None and not summary.pictures:
        best = max(
            (t["score"] for line in folder.judged(work.blocks) for t in line.get("texts", ()) if t["score"]),
            default=None,
        )
        hint = f"the highest score is {best:.3f}" if best is not None else "there was no text to judge"
        raise UserError(f"no text was kept: none reaches the threshold {work.judge.threshold}", hints=[hint])
    return summary


def _forward(tick: Tick, before: int, done: int) -> None:
    tick(before + done)


def summarise(folder: Folder, blocks: int) -> Summary:
    """Count what stands in a folder now."""
    records = broken = pictures = 0
    counts = {"web": [0, 0], "synthetic": [0, 0]}
    for line in folder.judged(blocks):
        records += 1
        broken += "broken" in line
        texts = line.get("texts", ())
        pictures += any(text["kept"] for text in texts)
        for text in texts:
            counts[text["origin"]][0] += 1
            counts[text["origin"]][1] += text["kept"]
    web, synthetic = (Counts(*counts[origin]) for origin in ("web", "synthetic"))
    return Summary(records, broken, pictures, web, synthetic, folder.finish(blocks))


@dataclass
class _Work:
    """What is done with the records of a block."""

    source: Source
    judge: Judge
    captioner: Captioner | None
    settings: Settings

    def __post_init__(self) -> None:
        self.seen = 0
        self.broken: dict[int, str] = {}

    @property
    def blocks(self) -> int:
        return -(-len(self.source) // self.settings.block)

    def rows(self, block: int) -> range:
        """Return the numbers of a block's records."""
        start = block * self.settings.block
        return range(start, min(start + self.settings.block, len(self.source)))

    def check_fields(self) -> None:
        """Refuse a source of which no record has what the models read."""
        for asker, names in self._reads():
            inputs = {name: asker.blueprint.inputs[name] for name in names}
            Loader(self.source, inputs, asker.tokenizers, batch=1, train=False)

    def block(self, rows: range, tick: Tick) -> Iterator[Record]:
        for start in range(rows.start, rows.stop, BATCH):
            batch = range(start, min(start + BATCH, rows.stop))
            yield from self._batch(batch)
            tick(batch.stop - rows.start)

    def _batch(self, rows: range) -> Iterator[Record]:
        read = [self._read(row) for row in rows]
        good = [seen for seen in read if isinstance(seen, _Read)]
        judged = dict(zip((seen.record.number for seen in good), self._judged(good), strict=True)) if good else {}
        for seen in read:
            yield judged[seen.record.number] if isinstance(seen, _Read) else seen
        self._account([seen for seen in read if isinstance(seen, Record)], len(rows))

    def _read(self, row: int) -> _Read | Record:
        """Read a record as both models see it; where it is broken, a record that says so."""
        try:
            record = dict(self.source.record(row))
            for field in self._fields():
                value = record.get(field)
                record[field] = value() if callable(value) else value
            shown = self.judge.read(record)
            captioned = self.captioner.read(record) if self.captioner is not None else []
        except BadRecord as error:
            return Record(row, broken=str(error))
        web = texts_in(record.get(self.judge.text)) if self.settings.texts != "synthetic" else ()
        key = record.get("id")
        named = key if isinstance(key, str | int) else None
        return _Read(Record(row, named), shown, captioned, web, record[self.judge.image])

    def _judged(self, read: Sequence[_Read]) -> list[Record]:
        texts = [dict.fromkeys(seen.web) for seen in read]  # which keeps their order
        first = read[0].record.number
        for number in range(self.settings.captions if self.captioner is not None else 0):
            assert self.captioner is not None
            written = self.captioner.write([seen.for_captioner for seen in read], self.settings.seed, first, number)
            for own, text in zip(texts, written, strict=True):
                own.setdefault(text.strip())  # a text that the picture has already is not judged twice
        scores = self.judge.scores([seen.shown for seen in read], [list(own) for own in texts])
        return [self._record(seen, own, mine) for seen, own, mine in zip(read, texts, scores, strict=True)]

    def _record(self, read: _Read, texts: Iterable[str], scores: Iterable[float | None]) -> Record:
        judged = tuple(self._text(text, score, web=text in read.web) for text, score in zip(texts, scores, strict=True))
        picture = as_file(read.picture) if any(text.kept for text in judged) else None
        return Record(read.record.number, read.record.id, judged, picture)

    def _text(self, text: str, score: float | None, *, web: bool) -> Judged:
        kept = score is not None and score >= self.judge.threshold
        if web:
            return Judged(text, "web", score, kept)
        assert self.captioner is not None
        return Judged(text, "synthetic", score, kept, self.captioner.run, self.settings.seed)

    def _account(self, broken: Sequence[Record], read: int) -> None:
        self.seen += read
        self.broken |= {record.number: record.broken or "" for record in broken}
        limit = self.source.skip_limit
        if len(self.broken) > limit * max(self.seen, min(JUDGED_FROM, len(self.source))):
            raise too_many_skipped(self.broken, self.seen, limit)

    def _reads(self) -> list[tuple[Any, list[str]]]:
        judged = [*self.judge.inputs[self.judge.image]]
        judged += self.judge.inputs[self.judge.text] if self.settings.texts != "synthetic" else ()
        captioned = [(self.captioner.asker, [*self.captioner.inputs])] if self.captioner is not None else []
        return [(self.judge.asker, judged), *captioned]

    def _fields(self) -> set[str]:
        captioned = {self.captioner.image} if self.captioner is not None else set()
        return {self.judge.image, self.judge.text} | captioned


@dataclass(frozen=True)
class _Read:
    """A record as the filter (`shown`) and the captioner (`for_captioner`) see it, with its texts and its picture."""

    record: Record
    shown: list[Any]
    for_captioner: list[Any]
    web: tuple[str, ...]
    picture: Any


def _asked(
    source: Source, judge: Judge, captioner: Captioner | None, settings: Settings, described: Mapping[str, Any]
) -> dict[str, Any]:
    """Write down what decides the outcome, as `capfilt.json` has it."""
    wrote = None
    if captioner is not None:
        wrote = {"run": captioner.run, "output": captioner.output, "search": dict(captioner.search)}
    return {
        "data": {**described, "records": len(source)},
        "captioner": wrote,
        "filter": {"run": judge.run, "by": judge.by, "threshold": judge.threshold},
        **asdict(settings),
    }
