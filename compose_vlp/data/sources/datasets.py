"""What the `datasets` library of Hugging Face opens: Parquet, JSON, Arrow and text files, folders, the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from compose_vlp.data.places import find_files
from compose_vlp.data.source import BadRecord, ClassNumber, Encoded, Record, Source
from compose_vlp.data.stores import is_address
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings, source

if TYPE_CHECKING:
    from datasets import Dataset

BUILDERS = {
    ".arrow": "arrow",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".tsv": "csv",
    ".txt": "text",
}
TEXT = "text"
"""What the library calls what reads text files, and their column of lines."""
SAVED = ("dataset_info.json", "dataset_dict.json")
"""What lies in a folder that the library has written (`save_to_disk`)."""


@source("datasets")
class HuggingFace(Source):
    """Records of a data set in any form that the `datasets` library reads; every column is a field.

    Each line of a text file (`.txt`) that holds anything is a record with the field `text`.
    Of a column of classes that the data set names (`ClassLabel`) an input with `classes` takes a record's class by its
    name. Columns of pictures (the library's own, lists of them, or plain bytes) stay as they are in the file until an
    input reads them. The library is an extra of its own: `pip install 'compose-vlp[datasets]'`. It keeps what it reads
    in its cache (`HF_HOME`), in Arrow's form.
    """

    class Config(Settings):
        """Which data set."""

        path: str = Field(
            description="files (`data/*.parquet`, `s3://bucket/*.parquet`, `books/*.txt`), a folder (pictures in "
            "folders by class, or beside a metadata.csv; or what `save_to_disk` wrote), or a name on the hub "
            "(`owner/name`)"
        )
        name: str | None = Field(None, description="configuration, where a data set has several")
        split: str = Field("train", description="which split, as in `validation` or `train[:10%]`")
        revision: str | None = Field(None, description="branch, tag or commit of a data set on the hub")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = config
        rows = _opened(config)
        from datasets import Image

        if not len(rows):
            raise UserError(f"{config.path} has no record in the split {config.split!r}")
        # In Arrow's form the library decodes nothing: its own decoders open pictures of any kind, and films.
        self.rows = rows.with_format("arrow")
        self.pictures = tuple(name for name, feature in rows.features.items() if isinstance(feature, Image))
        self.classes = _classes(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        record: dict[str, Any] = self.rows[index].to_pylist()[0]
        for name in self.pictures:
            record[name] = _picture(record[name], f"{self.settings.path}, row {index}, {name}")
        for name, known in self.classes.items():
            if isinstance(record[name], int):
                record[name] = ClassNumber.of(record[name], known)
        return record


def _opened(config: HuggingFace.Config) -> Dataset:
    try:
        import datasets
    except ModuleNotFoundError as error:
        hints = ["uv pip install 'compose-vlp[datasets]'"]
        raise UserError("the source `datasets` needs the library of this name", hints=hints) from error
    library = (datasets.exceptions.DatasetsError, ValueError, OSError)
    path = Path(config.path).expanduser()
    try:
        if any((path / name).is_file() for name in SAVED):
            saved = datasets.load_from_disk(str(path))
            return saved if isinstance(saved, datasets.Dataset) else _split(saved, config)
        builder = BUILDERS.get(path.suffix.lower())
        if builder is not None:
            files = [str(file) for file in find_files(config.path if is_address(config.path) else str(path))]
            rows = _built(builder, config, data_files={"train": files})
            return rows.filter(_say_something, input_columns=TEXT, batched=True) if builder == TEXT else rows
        if path.is_dir() and not any(path.iterdir()):
            raise UserError(f"the folder {config.path!r} is empty")
        return _built(str(path) if path.is_dir() else config.path, config, name=config.name, revision=config.revision)
    except library as error:
        first = str(error.__cause__ or error).strip().split("\n")[0]
        raise UserError(f"the datasets library cannot open {config.path!r}: {first}", hints=_hints(config)) from error


def _say_something(lines: list[str]) -> list[bool]:
    """Find which lines of a text hold more than white space."""
    return [bool(line.strip()) for line in lines]


def _built(builder: str, config: HuggingFace.Config, **settings: Any) -> Dataset:
    from datasets import Dataset, load_dataset

    rows = load_dataset(builder, split=config.split, **settings)
    assert isinstance(rows, Dataset), "one split that is not streamed"
    return rows


def _split(saved: Any, config: HuggingFace.Config) -> Dataset:
    if config.split not in saved:
        raise UserError(f"{config.path} has no split {config.split!r}", hints=[f"splits: {', '.join(saved)}"])
    rows: Dataset = saved[config.split]
    return rows


def _hints(config: HuggingFace.Config) -> list[str]:
    if Path(config.path).suffix.lower() in (".json", ".jsonl", ".ndjson"):
        return ["`use: jsonl` skips broken lines; this library refuses the whole file"]
    return [] if Path(config.path).exists() else [f"it is no file or folder here (looked from {Path.cwd()})"]


def _classes(rows: Dataset) -> dict[str, tuple[str, ...]]:
    """List the names of the classes of each column that has some."""
    from datasets import ClassLabel

    return {
        name: tuple(feature.names)
        for name, feature in rows.features.items()
        if isinstance(feature, ClassLabel) and feature.names
    }


def _picture(held: Any, where: str) -> Encoded | Path:
    held = held or {}
    if held.get("bytes") is not None:
        return Encoded(held["bytes"], f"{where} ({held['path']})" if held.get("path") else where)
    if not held.get("path"):
        raise BadRecord(f"{where} is empty")
    return Path(held["path"])
