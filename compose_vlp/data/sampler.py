"""Which records a batch is made of: a function of seed, epoch and position, so that any batch can be had again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.draws import Draws
from compose_vlp.data.source import Part, Runs
from compose_vlp.errors import UserError

Rows: TypeAlias = NDArray[np.int64]
SUBSTITUTE_TRIES = 10_000


@dataclass(frozen=True)
class Position:
    """How far a run has come: `index` records of the epoch's order are handed out, over all processes."""

    epoch: int = 0
    index: int = 0


class Plan(NamedTuple):
    """One batch of one process. `everyone` are the rows of all processes' batches; `after` follows this batch."""

    start: Position
    after: Position
    rows: tuple[int, ...]
    everyone: tuple[int, ...]


class Regrouping(Protocol):
    """Makes other batches of the records of so many `batches` that follow each other (`compose_vlp.data.buckets`)."""

    batches: int

    def regrouped(self, rows: Rows, lanes: Rows, epoch: int, window: int) -> Rows:
        """Give these records, which lie in these lanes, in another order."""


@dataclass(frozen=True)
class Order:
    """The order of `records` records in batches of `batch` a process.

    Shuffled anew each epoch, endless and in whole batches only where `shuffle` is set (training); otherwise once
    through in the source's order, the last batch as short as it comes. The global batch is the processes' batches one
    after the other: two processes with batches of 4 see what one with a batch of 8 sees.

    Of a mixture, an epoch has as many records as the parts together, and of each part as many as its weight gives it.
    A part is gone through again and again, shuffled anew each time, and an epoch goes on in it where the one before
    ended: no record comes twice before all of its part have come.

    Where records lie in runs (shards of a store), the runs are shuffled and laid end to end, the records of each
    shuffled within it, and the whole is cut into as many lanes as may be read at once. A batch takes as many records of
    each lane, and has them lane by lane: so each process reads from lanes of its own, and what a batch holds does not
    depend on how many processes there are. A run is cut where there are fewer than lanes.
    """

    records: int
    batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    shuffle: bool = True
    parts: tuple[Part, ...] = ()
    runs: tuple[Runs | None, ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"a batch of {self.batch} records")
        if self.shuffle and self.records < self.batch * self.world:
            needed = f"{self.batch} x {self.world} processes" if self.world > 1 else str(self.batch)
            raise UserError(f"the source has {self.records} records, fewer than one batch ({needed})")

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        whole = self.batch * self.world
        return self.records // whole if self.shuffle else -(-self.records // whole)

    def plans(self, start: Position, windows: Regrouping | None = None) -> Iterator[Plan]:
        """Yield the batches from a position on; `windows` regroups those of several that follow each other."""
        whole = self.batch * self.world
        epoch, index = start.epoch, start.index
        span = windows.batches * whole if windows is not None else 0
        while True:
            order, lanes = self._laid(epoch)
            end = self.batches * whole
            for begin in range(index, end, whole):
                if windows is not None and (begin == index or begin % span == 0):
                    first = begin - begin % span
                    window = slice(first, min(first + span, end))
                    order[window] = windows.regrouped(order[window], lanes[window], epoch, first // span)
                everyone = order[begin : begin + whole]
                after = Position(epoch, begin + whole) if begin + whole < end else Position(epoch + 1, 0)
                yield Plan(
                    start=Position(epoch, begin),
                    after=after,
                    rows=tuple(everyone[self.rank * self.batch : (self.rank + 1) * self.batch].tolist()),
                    everyone=tuple(everyone.tolist()),
                )
            if not self.shuffle:
                return
            epoch, index = epoch + 1, 0

    def permutation(self, epoch: int) -> Rows:
        """Return the order of all records in an epoch."""
        return self._laid(epoch)[0]

    def _laid(self, epoch: int) -> tuple[Rows, Rows]:
        """Give the order of all records in an epoch, and their lanes: all in one, where no runs are to be read."""
        if not self.shuffle:
            return np.arange(self.records, dtype=np.int64), np.zeros(self.records, np.int64)
        if not self.parts:
            order, lanes = self._round(self.records, self._runs_of(0), epoch)
        else:
            order, lanes = self._mixed(epoch)
        return self._by_lanes(order, lanes) if any(self.runs) else (order, np.zeros_like(order))

    def _mixed(self, epoch: int) -> tuple[Rows, Rows]:
        """Mix the streams of all parts; gives records, and the lane of each."""
        owners = np.repeat(np.arange(len(self.parts)), [part.each_epoch for part in self.parts])
        owners = owners[self._shuffled(len(owners), "parts", epoch)]
        order, lanes, first = np.empty(len(owners), np.int64), np.zeros(len(owners), np.int64), 0
        for number, part in enumerate(self.parts):
            mine, runs = owners == number, self._runs_of(number)
            order[mine], own = self._stream(number, part, epoch)
            lanes[mine] = first + own
            first += runs.at_once if runs else 1
        return order, lanes

    def _stream(self, number: int, part: Part, epoch: int) -> tuple[Rows, Rows]:
        """Give the records that a part gives to an epoch, in the order in which it gives them, and their lanes."""
        begin = epoch * part.each_epoch
        first, last = begin // part.records, (begin + part.each_epoch - 1) // part.records
        runs = self._runs_of(number)
        rounds = [self._round(part.records, runs, "part", number, again) for again in range(first, last + 1)]
        start = begin - first * part.records
        rows, lanes = (np.concatenate(each)[start : start + part.each_epoch] for each in zip(*rounds, strict=True))
        return part.first + rows, lanes

    def _round(self, records: int, runs: Runs | None, *key: int | str) -> tuple[Rows, Rows]:
        """Give all records once, and their lanes."""
        if runs is None:
            return self._shuffled(records, *key), np.zeros(records, np.int64)
        starts, sizes = np.concatenate([[0], runs.ends[:-1]]), np.diff(runs.ends, prepend=0)
        chance = self._generator(*key, "records")
        ordered = self._shuffled(len(sizes), *key, "runs")
        laid = np.concatenate([starts[run] + chance.permutation(sizes[run]) for run in ordered])
        lanes = np.arange(records) % runs.at_once
        return laid[np.argsort(np.argsort(lanes, kind="stable"), kind="stable")], lanes

    def _by_lanes(self, order: Rows, lanes: Rows) -> tuple[Rows, Rows]:
        """Sort the records of each batch by lane, so that each process has lanes of its own."""
        whole = self.batch * self.world
        end = self.batches * whole
        places = lanes[:end].reshape(-1, whole).argsort(axis=1, kind="stable")
        rows, of_rows = (np.take_along_axis(each[:end].reshape(-1, whole), places, axis=1) for each in (order, lanes))
        return rows.reshape(-1), of_rows.reshape(-1)

    def _runs_of(self, part: int) -> Runs | None:
        return self.runs[part] if part < len(self.runs) else None

    def _shuffled(self, count: int, *key: int | str) -> Rows:
        return self._generator(*key).permutation(count)

    def _generator(self, *key: int | str) -> np.random.RandomState:
        return random_numbers("order", self.seed, *key)

    def substitutes(self, plan: Plan) -> Iterator[int]:
        """Records to take where some of a batch are broken: none that any process has in this batch, none twice."""
        taken = set(plan.everyone)
        draws = Draws("substitutes", self.seed, plan.start.epoch, plan.start.index)
        for _ in range(SUBSTITUTE_TRIES):
            row = self._near(draws, plan) if any(self.runs) else self._any(draws)
            if row not in taken:
                taken.add(row)
                if (len(taken) - len(plan.everyone) - 1) % self.world == self.rank:
                    yield row

    def _any(self, draws: Draws) -> int:
        """Draw a record; of a mixture, from one of its parts by their weights."""
        place = draws.below(self.records)
        for part in self.parts:
            if place < part.each_epoch:
                return part.first + draws.below(part.records)
            place -= part.each_epoch
        return place

    def firsts_of(self, batches: Iterable[Sequence[int]]) -> list[int]:
        """List the first records of the runs that records lie in, in the order in which the runs are met."""
        rows = np.asarray([row for batch in batches for row in batch], np.int64)
        firsts: list[int] = []
        for number, part in enumerate(self.parts or (Part("", 0, self.records, self.records),)):
            runs = self._runs_of(number)
            if runs is not None:
                own = rows[(rows >= part.first) & (rows < part.first + part.records)] - part.first
                met = dict.fromkeys(np.searchsorted(runs.ends, own, "right").tolist())
                firsts += [part.first + (int(runs.ends[run - 1]) if run else 0) for run in met]
        return firsts

    def _near(self, draws: Draws, plan: Plan) -> int:
        """Draw a record that lies in one run with one of the batch, which is on this machine already."""
        row = plan.everyone[draws.below(len(plan.everyone))]
        parts = self.parts or (Part("", 0, self.records, self.records),)
        number, part = next((n, part) for n, part in enumerate(parts) if row < part.first + part.records)
        runs = self._runs_of(number)
        first, end = (0, part.records) if runs is None else runs.of(row - part.first)
        return part.first + first + draws.below(end - first)


def random_numbers(*key: int | str) -> np.random.RandomState:
    """Make numpy's generator of a key."""
    draws = Draws(*key)
    # numpy keeps this generator's sequences over its versions (NEP 19), and not those of the newer ones.
    return np.random.RandomState([draws.below(2**32) for _ in range(8)])
