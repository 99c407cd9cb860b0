"""A batch: records read field by field, broken ones replaced, and what was read stacked into values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from compose_vlp.blueprint.inputs import Input, TextInput
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.draws import Draws
from compose_vlp.data.fields import Field, make_field, table_values
from compose_vlp.data.sampler import Order, Plan, Position
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.errors import UserError
from compose_vlp.values import Value


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """Values by input name (a `many` text also has `name.owner` and `name.weight`, a table `name.owner`).

    `rows` are the records' numbers, `position` is where the next batch begins, `skipped` what was broken on the way.
    """

    values: dict[str, Value]
    rows: tuple[int, ...]
    position: Position
    skipped: tuple[Skipped, ...] = field(default=())

    def pin_memory(self) -> Batch:
        """Copy the batch into page-locked memory, from which copies to a GPU overlap with work."""
        import torch
        from torch.utils import _pytree as pytree

        pinned = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.pin_memory(), self.values)
        return Batch(pinned, self.rows, self.position, self.skipped)


class Collator:
    """Reads records for the inputs of a blueprint, and makes batches of them.

    Args:
        inputs: by name; those with a table are constant and the same in every batch.
        tokenizers: by the name that text inputs give them.
        seed: of the augmentation; each record of each epoch has random numbers of its own.
        train: augment, and draw among several captions of one picture.
    """

    def __init__(
        self, inputs: Mapping[str, Input], tokenizers: Mapping[str, Tokenizer], *, seed: int = 0, train: bool = False
    ) -> None:
        self.seed = seed
        self.train = train
        self.constants: dict[str, Value] = {}
        self.fields: list[Field] = []
        for name, settings in inputs.items():
            if isinstance(settings, TextInput) and settings.table is not None:
                self.constants.update(table_values(name, settings, tokenizers))
            else:
                self.fields.append(make_field(name, settings, tokenizers))

    def read(self, record: Mapping[str, Any], epoch: int = 0, index: int = 0) -> list[Any]:
        """Read each field's part of a record.

        Raises:
            BadRecord: a field is missing, or is none that its input can read.
        """
        values: dict[str, Any] = {}
        items = []
        for reader in self.fields:
            if reader.name not in values:
                values[reader.name] = _value(record, reader.name)
            draws = partial(Draws, "view", self.seed, epoch, index, reader.key) if self.train else None
            items.append(reader.read(values[reader.name], draws))
        return items

    def length(self, record: Mapping[str, Any], epoch: int, index: int) -> tuple[float, bool]:
        """Add up how long the texts are that `read` finds there; and tell whether another epoch may find others.

        Raises:
            BadRecord: a field is missing.
        """
        length, drawn = 0.0, False

        def draws(key: str) -> Draws:
            nonlocal drawn
            drawn = True
            return Draws("view", self.seed, epoch, index, key)

        for reader in self.fields:
            if reader.pads:
                length += reader.length(_value(record, reader.name), partial(draws, reader.key) if self.train else None)
        return length, drawn

    def stack(self, items: Sequence[Sequence[Any]]) -> dict[str, Value]:
        """Stack read records into the values of a batch."""
        values = dict(self.constants)
        for reader, column in zip(self.fields, zip(*items, strict=True), strict=True):
            values.update(reader.stack(column))
        return values

    def fieldless(self, record: Mapping[str, Any]) -> list[Field]:
        """List the fields that a record lacks."""
        return [reader for reader in self.fields if reader.name not in record]


def _value(record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        raise BadRecord(f"no field {name!r}; there are {', '.join(map(str, record))}")
    value = record[name]
    return value() if callable(value) else value


class BatchReader:
    """Batches by plan; what worker processes hold."""

    def __init__(self, source: Source, collator: Collator, order: Order) -> None:
        self.source = source
        self.collator = collator
        self.order = order

    def __getitem__(self, plan: Plan) -> Batch | UserError:
        """Read the batch; or, since exceptions lose their form on the way from a worker, a mistake as a value."""
        try:
            return self._batch(plan)
        except UserError as error:
            return error

    def _batch(self, plan: Plan) -> Batch:
        items: list[list[Any]] = []
        rows: list[int] = []
        skipped: list[Skipped] = []
        for row in self._candidates(plan, rows):
            try:
                items.append(self._read(row, plan.start.epoch))
                rows.append(row)
            except BadRecord as error:
                skipped.append(Skipped(row, str(error)))
        if self.order.shuffle and len(rows) < len(plan.rows):
            raise UserError(
                f"{len(skipped)} records are broken, and too few are left for a batch of {self.order.batch}",
                hints=[record.reason for record in skipped[:3]],
            )
        values = self.collator.stack(items) if items else {}
        return Batch(values, tuple(rows), plan.after, tuple(skipped))

    def _candidates(self, plan: Plan, good: Sequence[int]) -> Iterator[int]:
        """Yield the rows of the plan; in training also substitutes until the batch is full."""
        yield from plan.rows
        if self.order.shuffle:
            for row in self.order.substitutes(plan):
                if len(good) >= len(plan.rows):
                    return
                yield row

    def _read(self, row: int, epoch: int) -> list[Any]:
        try:
            return self.collator.read(self.source.record(row), epoch, row)
        except (BadRecord, UserError):
            raise
        except Exception as error:
            error.add_note(f"while reading record {row} of {type(self.source).__name__}")
            raise
