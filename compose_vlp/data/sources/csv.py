"""A table with a line of headings: captions and the paths of their pictures, as spreadsheets write them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from compose_vlp.data.delimited import Quoting, dialect_of, records_of
from compose_vlp.data.places import find_file, find_pictures, names_picture, no_records, picture_at, reads_so
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.data.stores import is_address, shown_address
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.registry import Settings, source


@source("csv")
class Table(Source):
    """Records of a CSV or TSV file. Every column is a field of text; those in `pictures` hold paths of picture files.

    The first line names the columns, or `columns` does. A line of another number of cells, one whose quotation marks do
    not pair, or one that is not UTF-8: the record is skipped and counted, as one whose picture is missing or broken.
    """

    class Config(Settings):
        """Where the table and the pictures are, and how the table is written."""

        path: str = Field(
            description="the file, on disk or in a store (`s3://bucket/table.csv`); UTF-8, or UTF-16 with a "
            "byte-order mark"
        )
        images: str | None = Field(
            None, description="folder, of a store too, that picture paths start from; the file's own if left out"
        )
        pictures: tuple[str, ...] = Field(("image",), description="columns that hold paths of pictures")
        only: dict[str, str] = Field(
            default_factory=dict, description="take only the records whose columns read so, as in {split: train}"
        )
        columns: tuple[str, ...] | None = Field(
            None, description="names of the columns, of a file without a line of headings"
        )
        separator: str | None = Field(
            None,
            pattern=r'^[^"\r\n]$',
            description='what parts the cells, as in ";" or "\\t"; seen in the file if left out',
        )
        quoting: Quoting | None = Field(
            None,
            description="quotes: a cell may stand in quotation marks; none: a mark is a mark. If left out, quotes, but "
            "none between tabs or bars, unless the whole file is quoted without a mistake",
        )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = config
        self.file = find_file(config.path)
        self.name = shown_address(config.path) if is_address(config.path) else str(self.file)
        self.folder = find_pictures(config.images, config.path)
        dialect = dialect_of(self.file, config.separator, config.quoting)
        lines = records_of(self.file, dialect, len(config.columns) if config.columns else None)
        self.columns = list(config.columns) if config.columns is not None else self._headings(next(lines, (0, ""))[1])
        self._check_columns()
        self.rows = [(number, cells) for number, cells in lines if self._wanted(cells)]
        if not self.rows:
            raise no_records(self.name, config.only)

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, index: int) -> Record:
        number, cells = self.rows[index]
        where = f"{self.name}:{number}"
        if isinstance(cells, str):
            raise BadRecord(f"{where}: {cells}")
        if len(cells) != len(self.columns):
            raise BadRecord(f"{where}: {len(cells)} cells under {len(self.columns)} headings")
        fields: dict[str, Any] = {name: cell for name, cell in zip(self.columns, cells, strict=True) if name}
        for name in self.settings.pictures:
            if name in fields:
                fields[name] = picture_at(self.folder, fields[name], name, where)
        return fields

    def _headings(self, cells: list[str] | str) -> list[str]:
        headings = [cell.strip() for cell in cells] if isinstance(cells, list) else []
        if not any(headings):
            raise UserError(f"{self.name} does not begin with a line of headings", hints=["as in `image,caption`"])
        picture = next((cell for cell in headings if names_picture(cell)), None)
        if picture is not None:
            names = ", ".join("image" if cell == picture else "..." for cell in headings)
            raise UserError(
                f"{self.name} does not begin with a line of headings: {picture!r} names a picture",
                hints=[f"`columns: [{names}]` names the columns"],
            )
        return headings

    def _check_columns(self) -> None:
        twice = next((name for name in self.columns if name and self.columns.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{self.name} has two columns {twice!r}", hints=["a field is one column"])
        for name in self.settings.only:
            if name not in self.columns:
                hints = did_you_mean(name, self.columns) or (f"columns: {', '.join(self.columns)}",)
                raise UserError(f"{self.name} has no column {name!r}", hints=hints)

    def _wanted(self, cells: list[str] | str) -> bool:
        """Keep broken lines too: they are counted and named when read, not lost here."""
        if isinstance(cells, str) or len(cells) != len(self.columns):
            return True
        return reads_so(dict(zip(self.columns, cells, strict=True)), self.settings.only)
