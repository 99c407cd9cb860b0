"""Batches for training and evaluation: deterministic, resumable, in worker processes where asked for."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from compose_vlp.blueprint.inputs import Input
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.buckets import Buckets
from compose_vlp.data.collate import Batch, BatchReader, Collator, Skipped
from compose_vlp.data.kept import ReadAhead
from compose_vlp.data.readers import DEAF_TO, ReaderContext, deafen
from compose_vlp.data.sampler import Order, Plan, Position
from compose_vlp.data.shared_memory import Sending
from compose_vlp.data.source import BadRecord, Part, Record, Source
from compose_vlp.data.usable import check_renamed
from compose_vlp.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

PROBED = 5
"""Records that are looked at for the fields that the inputs read."""
JUDGED_FROM = 200
"""The share of broken records is taken of at least so many (or of all, where there are fewer)."""


class Loader:
    """Batches of a source as the inputs of a blueprint want them.

    In training: an endless stream in whole batches, shuffled anew each epoch. Otherwise: once through, in order, and
    the last batch as short as it comes. A batch depends on seed, epoch and place only, never on the number of workers
    or on what was read before, so that `load_state_dict` goes on exactly where `state_dict` was taken.

    A broken record is skipped, counted and named in the log; in training another one takes its place.

    Args:
        source: the records.
        inputs: the inputs that this source feeds, by name.
        tokenizers: ready ones, by the name that text inputs give them.
        batch: records a batch and process.
        seed: of order and augmentation.
        train: see above.
        rank: number of this process among `world`.
        world: number of processes; their batches are parts of one global batch.
        workers: worker processes that read ahead; 0 reads in this process.
        pin: hand out batches in page-locked memory (for CUDA).
        skip_limit: share of broken records above which the run stops; the source's own if left out.
        bucket: batches among which texts of like length are put together in training (`compose_vlp.data.buckets`);
            a source of which no text is read that is padded to the longest keeps its order.

    Raises:
        UserError: no record of the source has the field that an input or `fields` reads; fewer records than a batch;
            a tokenizer that is missing. While iterating: more broken records than `skip_limit`.
    """

    def __init__(
        self,
        source: Source,
        inputs: Mapping[str, Input],
        tokenizers: Mapping[str, Tokenizer],
        *,
        batch: int,
        seed: int = 0,
        train: bool = True,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        pin: bool = False,
        skip_limit: float | None = None,
        bucket: int | None = None,
    ) -> None:
        self.order = Order(len(source), batch, seed, rank, world, shuffle=train, parts=source.parts, runs=source.runs)
        self.reader = BatchReader(source, Collator(inputs, tokenizers, seed=seed, train=train), self.order)
        self.workers = workers
        self.pin = pin
        self.skip_limit = source.skip_limit if skip_limit is None else skip_limit
        self.position = Position()
        self.seen = 0
        self.skipped: dict[int, str] = {}
        check_renamed(source)
        check_fields(source, {field.input: field.name for field in self.reader.collator.fields})
        pads = train and any(field.pads for field in self.reader.collator.fields)
        self.buckets = Buckets(self.reader, bucket, seed) if bucket is not None and pads else None

    @property
    def batches_per_epoch(self) -> int:
        return self.order.batches

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present position on; without `train`, from the first record."""
        start = self.position if self.order.shuffle else Position()
        batches = self._read_ahead(start) if self.workers else self._read(start)
        for got in self._fetching(start, batches) if any(self.order.runs) else batches:
            if isinstance(got, UserError):
                raise got
            self._account(got)
            if got.values:
                yield got

    def state_dict(self) -> dict[str, Any]:
        """Say where the next batch begins, and what was skipped up to there."""
        return {
            "epoch": self.position.epoch,
            "index": self.position.index,
            "records": self.order.records,
            "parts": self._parts(),
            "at_once": self._at_once(),
            "bucket": self._bucket(),
            "seen": self.seen,
            "skipped": dict(self.skipped),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken; takes effect with the next `iter`.

        Raises:
            UserError: the source has another number of records now, or other parts, or the position is not the start
                of a batch.
        """
        if state["records"] != self.order.records:
            raise UserError(
                f"the source had {state['records']} records when this run stopped, and has {self.order.records} now"
            )
        if state["parts"] != self._parts():
            raise UserError(
                "the mixture had other parts or weights when this run stopped",
                hints=[f"then: {_said(state['parts'])}", f"now: {_said(self._parts())}"],
            )
        if (then := state.get("at_once", self._at_once())) != self._at_once():
            raise UserError(
                f"records were shuffled among {then} shards at once when this run stopped, and {self._at_once()} now",
                hints=["`at_once` and `keep_gb` of the data are to be what they were"],
            )
        if (then := state.get("bucket", 1)) != self._bucket():
            raise UserError(
                f"texts of like length were put together among {then} batches when this run stopped, and among "
                f"{self._bucket()} now",
                hints=["`bucket` of the stage is to be what it was"],
            )
        whole = self.order.batch * self.order.world
        if state["index"] % whole:
            raise UserError(f"the run stopped after {state['index']} records of an epoch, no multiple of {whole}")
        self.position = Position(state["epoch"], state["index"])
        self.seen = state["seen"]
        self.skipped = dict(state["skipped"])

    def _parts(self) -> list[list[Any]]:
        """Name, first record, records and records of an epoch of each part, as a checkpoint keeps them."""
        return [list(part) for part in self.order.parts]

    def _at_once(self) -> list[int]:
        """List for each part the runs among which it is shuffled; 0 where that is all of it."""
        return [runs.at_once if runs else 0 for runs in self.order.runs]

    def _bucket(self) -> int:
        """Batches among which records change places; 1 where they stay."""
        return self.buckets.batches if self.buckets is not None else 1

    def _read_ahead(self, start: Position) -> Iterator[Batch | UserError]:
        from torch import Generator
        from torch.utils.data import DataLoader

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or the library warns of every fork
        loader: DataLoader[Any] = DataLoader(
            Sending(self.reader),  # type: ignore[arg-type]  # has what a map-style dataset needs
            sampler=self._plans(start),  # items are plans, one a batch
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.pin,
            generator=Generator(),  # of its own: the global one belongs to the model
            multiprocessing_context=ReaderContext(),
            worker_init_fn=deafen,
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)  # which processes and threads that start inherit
        batches: Iterator[Batch | UserError]
        try:
            batches = iter(loader)
        except OSError as error:  # no room for semaphores in shared memory, no more processes
            log.warning("no processes can read ahead here (%s), so that data is read in between: `--workers 0`", error)
            batches = self._read(start)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from batches

    def _fetching(self, start: Position, batches: Iterator[Batch | UserError]) -> Iterator[Batch | UserError]:
        """Hand batches on, and fetch in the background what those to come lie in: of each lane a run and the next."""
        coming = self._plans(start)
        ahead = ReadAhead(self.reader.source.fetch)
        try:
            ahead.ask(self.order.firsts_of(plan.rows for plan in islice(coming, self._depth())))
            for batch in batches:
                yield batch
                ahead.ask(self.order.firsts_of(plan.rows for plan in islice(coming, 1)))
        finally:
            ahead.close()

    def _depth(self) -> int:
        """Batches ahead that are fetched: a run of each lane, less a window, which may lie in two runs itself."""
        whole = self.order.batch * self.order.world
        runs = max(-(-runs.records_at_once // whole) for runs in self.order.runs if runs)
        return max(runs - self._bucket() + 1, 1)

    def _plans(self, start: Position) -> Iterator[Plan]:
        return self.order.plans(start, self.buckets)

    def _read(self, start: Position) -> Iterator[Batch | UserError]:
        return map(self.reader.__getitem__, self._plans(start))

    def _account(self, batch: Batch) -> None:
        self.position = batch.position
        self.seen += len(batch.rows) + len(batch.skipped)
        for record in batch.skipped:
            if record.index not in self.skipped:
                self.skipped[record.index] = record.reason
                log.warning("skipped record %d: %s", record.index, record.reason)
        base = max(self.seen, min(JUDGED_FROM, self.order.records))
        if len(self.skipped) > self.skip_limit * base:
            raise too_many_skipped(self.skipped, self.seen, self.skip_limit)


def too_many_skipped(skipped: Mapping[int, str], seen: int, limit: float) -> UserError:
    """Make the error for a data set with too many broken records, with the first of them."""
    first = [f"record {index}: {reason}" for index, reason in list(skipped.items())[:3]]
    return UserError(f"{len(skipped)} of {seen} records are broken, more than the limit of {limit:.0%}", hints=first)


def _said(parts: Iterable[Iterable[Any]]) -> str:
    return ", ".join(f"{each} of {name} ({records})" for name, _, records, each in parts) or "no mixture"


def check_fields(source: Source, read: Mapping[str, str]) -> None:
    """Refuse fields that no record has, by the inputs that `read` them; of a mixture, each part is asked.

    They are a mistake in the blueprint, not in the data.

    Raises:
        UserError: the first records that can be read all lack a field.
    """
    for name, first, count, _ in source.parts or (Part("", 0, len(source), len(source)),):
        records = list(_readable(source, range(first, first + min(PROBED, count))))
        for given, field in read.items() if records else ():
            if all(field not in record for record in records):
                known = [str(name) for name in records[0]]
                where = f" of {name!r}" if name else ""
                raise UserError(
                    f"input {given!r} reads the field {field!r}, which the records{where} do not have",
                    hints=[
                        *did_you_mean(field, known),
                        f"fields: {', '.join(known)}",
                        "`from:` names another field",
                    ],
                )


def _readable(source: Source, indices: Iterable[int]) -> Iterator[Record]:
    for index in indices:
        try:
            yield source.record(index)
        except BadRecord:
            continue


__all__ = ["Batch", "Loader", "Position", "Skipped"]
