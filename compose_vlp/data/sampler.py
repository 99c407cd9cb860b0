"""Which records a batch is made of: a function of seed, epoch and position, so that any batch can be had again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.draws import Draws
from compose_vlp.data.source import Part
from compose_vlp.errors import UserError

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


@dataclass(frozen=True)
class Order:
    """The order of `records` records in batches of `batch` a process.

    Shuffled anew each epoch, endless and in whole batches only where `shuffle` is set (training); otherwise once
    through in the source's order, the last batch as short as it comes. The global batch is the processes' batches one
    after the other: two processes with batches of 4 see what one with a batch of 8 sees.

    Of a mixture, an epoch has as many records as the parts together, and of each part as many as its weight gives it.
    A part is gone through again and again, shuffled anew each time, and an epoch goes on in it where the one before
    ended: no record comes twice before all of its part have come.
    """

    records: int
    batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    shuffle: bool = True
    parts: tuple[Part, ...] = ()

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

    def plans(self, start: Position) -> Iterator[Plan]:
        """Yield the batches from a position on."""
        whole = self.batch * self.world
        epoch, index = start.epoch, start.index
        while True:
            order = self.permutation(epoch)
            end = self.batches * whole
            for begin in range(index, end, whole):
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

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of all records in an epoch."""
        if not self.shuffle:
            return np.arange(self.records, dtype=np.int64)
        if not self.parts:
            return self._shuffled(self.records, epoch)
        streams = [self._stream(number, part, epoch) for number, part in enumerate(self.parts)]
        owners = np.repeat(np.arange(len(self.parts)), [part.each_epoch for part in self.parts])
        owners = owners[self._shuffled(len(owners), "parts", epoch)]
        order = np.empty(len(owners), np.int64)
        for number, stream in enumerate(streams):
            order[owners == number] = stream
        return order

    def _stream(self, number: int, part: Part, epoch: int) -> NDArray[np.int64]:
        """Yield the records that a part gives to an epoch, in the order in which it gives them."""
        begin = epoch * part.each_epoch
        first, last = begin // part.records, (begin + part.each_epoch - 1) // part.records
        rounds = [self._shuffled(part.records, "part", number, again) for again in range(first, last + 1)]
        start = begin - first * part.records
        return part.first + np.concatenate(rounds)[start : start + part.each_epoch]

    def _shuffled(self, count: int, *key: int | str) -> NDArray[np.int64]:
        draws = Draws("order", self.seed, *key)
        state = [draws.below(2**32) for _ in range(8)]
        # numpy keeps this generator's sequences over its versions (NEP 19), and not those of the newer ones.
        return np.random.RandomState(state).permutation(count)

    def substitutes(self, plan: Plan) -> Iterator[int]:
        """Records to take where some of a batch are broken: none that any process has in this batch, none twice."""
        taken = set(plan.everyone)
        draws = Draws("substitutes", self.seed, plan.start.epoch, plan.start.index)
        for _ in range(SUBSTITUTE_TRIES):
            row = self._any(draws)
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
