"""A folder of pictures: captions in text files beside them, classes by the folders they are in."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from compose_vlp.data.places import PICTURES, find_folder
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings, source


@source("folder")
class Folder(Source):
    """Every picture below a folder, in the order of their paths; needs no annotations.

    Fields of a record: `image`; `file`, its path in the folder; `label`, the name of the folder it is in; and
    `caption`, the text of the file of its name that ends in `.txt`.
    """

    class Config(Settings):
        """Where the pictures are."""

        path: str = Field(description="the folder; those in it are looked through too")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.folder = find_folder(config.path)
        self.files = sorted(
            str(file.relative_to(self.folder))
            for file in self.folder.rglob("*")
            if file.suffix.lower() in PICTURES and not file.name.startswith(".")
        )
        if not self.files:
            raise UserError(f"no picture lies in {config.path!r}", hints=[f"looked for {', '.join(sorted(PICTURES))}"])

    def __len__(self) -> int:
        return len(self.files)

    def record(self, index: int) -> Record:
        file = self.folder / self.files[index]
        record = {"image": file, "file": self.files[index], "label": file.parent.name}
        said = file.with_suffix(".txt")
        return {**record, "caption": _text(said)} if said.is_file() else record


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{file}: {error}") from error
