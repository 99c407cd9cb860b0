"""A source of records that a test writes down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compose_vlp.data.source import Source


class Given(Source):
    """The records of a list; an exception stands for a broken one."""

    def __init__(self, records: Sequence[Mapping[str, Any] | Exception]) -> None:
        super().__init__(None)
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> Mapping[str, Any]:
        actual = self.records[index]
        if isinstance(actual, Exception):
            raise actual
        return actual
