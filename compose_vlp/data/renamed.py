"""A source whose fields are called otherwise, so that sources of different makers fit one blueprint."""

from __future__ import annotations

from collections.abc import Mapping

from compose_vlp.data.source import Record, Source


class Renamed(Source):
    """Another source's records with fields under further names: `fields: {caption: sentence}`.

    A field keeps its own name too, unless another takes it. One that a record lacks stays away there.
    """

    def __init__(self, source: Source, fields: Mapping[str, str]) -> None:
        super().__init__(None)
        self.source = source
        self.fields = dict(fields)
        self.decodes, self.parts, self.notes = source.decodes, source.parts, source.notes
        self.runs, self.fetch = source.runs, source.fetch  # type: ignore[method-assign]

    def text_bytes(self, index: int, field: str) -> int | None:
        return self.source.text_bytes(index, self.fields.get(field, field))

    def __len__(self) -> int:
        return len(self.source)

    def record(self, index: int) -> Record:
        record = self.source.record(index)
        return {**record, **{name: record[field] for name, field in self.fields.items() if field in record}}
