"""Batches of texts of like length: records change places among the batches of a window, so that less is padding."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.collate import BatchReader
from compose_vlp.data.fields import Field
from compose_vlp.data.sampler import Rows, random_numbers
from compose_vlp.data.source import BadRecord, Part
from compose_vlp.errors import UserError

Lengths = NDArray[np.float64]
PROBED = 5
"""Records of a store's shards that are asked for the lengths of their texts before the first step."""


class Buckets:
    """Puts texts of like length in one batch, among the `batches` that follow each other in a window of an epoch.

    The records of a window are sorted by the length of their texts and cut into batches, which are shuffled. Which
    records a window has, and how they stand within a batch, is left as the order has it: an epoch has each record as
    often as before, and all processes take from one batch. Records of shards that are fetched change places within
    their lane alone, so that each process still reads from lanes of its own.

    A length is that of the words as they are written, those of all texts together that are padded to the longest: what
    tokenizers make of them is not asked, so two runs that differ in nothing but a tokenizer see the same batches.

    Args:
        reader: of the batches that are to be made.
        batches: batches of a window.
        seed: of the order of the batches within a window.

    Raises:
        UserError: of shards that are fetched, a window would need more than are here at once, or the lengths are not
            known before they are.
    """

    def __init__(self, reader: BatchReader, batches: int, seed: int) -> None:
        self.batches, self.seed = batches, seed
        self.source, self.collator, self.order = reader.source, reader.collator, reader.order
        self.fields = [field for field in self.collator.fields if field.pads]
        self.parts = self.order.parts or (Part("", 0, self.order.records, self.order.records),)
        self.firsts = [part.first for part in self.parts]
        self.known = np.zeros(self.order.records)  # pages that nobody writes take no memory
        for number, runs in enumerate(self.order.runs):
            if runs is not None:
                self._check_room(self.parts[number], runs.records_at_once)
                self._check_known(self.parts[number])

    def regrouped(self, rows: Rows, lanes: Rows, epoch: int, window: int) -> Rows:
        """Give the records of a window of an epoch in the order of its new batches.

        Raises:
            UserError: the store that a record lies in does not answer.
        """
        whole = self.order.batch * self.order.world
        lengths = self.lengths(rows, epoch)
        sorted_rows = rows.copy()
        for lane in np.unique(lanes):
            places = np.flatnonzero(lanes == lane)
            by_length = places[np.argsort(lengths[places], kind="stable")]
            # back as they stood within each batch, or the first process would have its shortest texts
            sorted_rows[places] = rows[by_length[np.lexsort((by_length, places // whole))]]
        batches = sorted_rows.reshape(-1, whole)
        return batches[random_numbers("buckets", self.seed, epoch, window).permutation(len(batches))].reshape(-1)

    def lengths(self, rows: Rows, epoch: int) -> Lengths:
        """Give how long the texts of records are in an epoch, in words; of records of a store, in bytes."""
        return np.array([self._length(row, epoch) for row in rows.tolist()])

    def _length(self, row: int, epoch: int) -> float:
        """Words of a record's texts, and letters to tell apart what has as many words; 0 of a broken record."""
        if self.known[row]:
            return float(self.known[row])
        try:
            if self._is_fetched(row):
                return float(sum(self.source.text_bytes(row, field.name) or 0 for field in self.fields))
            length, drawn = self.collator.length(self.source.record(row), epoch, row)
        except BadRecord:  # counted where its batch is read
            return 0.0
        if not drawn:
            self.known[row] = length
        return length

    def _is_fetched(self, row: int) -> bool:
        return any(self.order.runs) and self.order.runs[bisect_right(self.firsts, row) - 1] is not None

    def _check_room(self, part: Part, at_once: int) -> None:
        """Half of what is here at once: a window then lies in two shards of each lane, which there is room for."""
        share = part.each_epoch / sum(each.each_epoch for each in self.parts)
        most = int(at_once / (2 * share * self.order.batch * self.order.world))
        if self.batches > most:
            way = f"`bucket: {most}`" if most > 1 else "a smaller `batch`"
            raise UserError(
                f"`bucket: {self.batches}` sorts {self.batches * self.order.batch * self.order.world:,} records at a "
                f"time, and {at_once:,} of the shards{_of(part)} are here at once, of which half may be sorted",
                hints=[f"{way}, or more shards at once: `at_once` and `keep_gb` of the data"],
            )

    def _check_known(self, part: Part) -> None:
        rows = range(part.first, part.first + min(PROBED, part.records))
        for field in self.fields:
            if all(self._bytes(row, field) is None for row in rows):
                raise UserError(
                    f"`bucket` needs the length of `{field.name}` before the shards{_of(part)} are fetched, whose "
                    "indices do not say it",
                    hints=[
                        "they know it of texts that are members of their own: `.txt` is read as `caption`",
                        "shards on this machine's disk are read for it; or leave `bucket` out",
                    ],
                )

    def _bytes(self, row: int, field: Field) -> int | None:
        try:
            return self.source.text_bytes(row, field.name)
        except BadRecord:
            return None


def _of(part: Part) -> str:
    return f" of {part.name!r}" if part.name else ""
