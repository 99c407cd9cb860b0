"""A table with a line of headings: captions and the paths of their pictures, as spreadsheets write them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from compose_vlp.data.places import find_file, find_folder, no_records, picture_at, reads_so
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.registry import Settings, source

LONGEST_CELL = 10_000_000


@source("csv")
class Table(Source):
    """Records of a CSV or TSV file. Every column is a field of text; those in `pictures` hold paths of picture files.

    The first line names the columns. A line of another number of cells, or one that is not UTF-8: the record is
    skipped and counted, as one whose picture is missing or broken.
    """

    class Config(Settings):
        """Where the table and the pictures are."""

        path: str = Field(description="the file; UTF-8, columns parted by commas, or by tabs in a .tsv")
        images: str | None = Field(None, description="folder that picture paths start from; the file's own if left out")
        pictures: tuple[str, ...] = Field(("image",), description="columns that hold paths of pictures")
        only: dict[str, str] = Field(
            default_factory=dict, description="take only the records whose columns read so, as in {split: train}"
        )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = config
        self.file = find_file(config.path)
        self.folder = find_folder(config.images) if config.images is not None else self.file.parent
        lines = _lines(self.file)
        self.columns = next(lines, (0, [""]))[1]
        self._check_columns()
        self.rows = [(number, cells) for number, cells in lines if self._wanted(cells)]
        if not self.rows:
            raise no_records(self.file, config.only)

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, index: int) -> Record:
        number, cells = self.rows[index]
        where = f"{self.file}:{number}"
        if isinstance(cells, str):
            raise BadRecord(f"{where}: {cells}")
        if len(cells) != len(self.columns):
            raise BadRecord(f"{where}: {len(cells)} cells under {len(self.columns)} headings")
        fields: dict[str, Any] = dict(zip(self.columns, cells, strict=True))
        for name in self.settings.pictures:
            if name in fields:
                fields[name] = picture_at(self.folder, fields[name], name, where)
        return fields

    def _check_columns(self) -> None:
        if isinstance(self.columns, str) or not any(self.columns):
            raise UserError(f"{self.file} does not begin with a line of headings", hints=["as in `image,caption`"])
        for name in self.settings.only:
            if name not in self.columns:
                hints = did_you_mean(name, self.columns) or (f"columns: {', '.join(self.columns)}",)
                raise UserError(f"{self.file} has no column {name!r}", hints=hints)

    def _wanted(self, cells: list[str] | str) -> bool:
        """A broken line is to be counted and named when it is read, not lost here."""
        if isinstance(cells, str) or len(cells) != len(self.columns):
            return True
        return reads_so(dict(zip(self.columns, cells, strict=True)), self.settings.only)


def _lines(file: Path) -> Iterator[tuple[int, list[str] | str]]:
    """The number of each line that is not empty, and its cells; or what is wrong with it."""
    csv.field_size_limit(LONGEST_CELL)
    # Bytes that are no UTF-8 become lone surrogates, which are found below: one bad line does not end the file.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        while True:
            begin = rows.line_num + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield begin, f"no line of a table: {error}"
                continue
            if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell if letter > "\ud7ff"):
                yield begin, "no text in UTF-8"
            elif cells:
                yield begin, cells
