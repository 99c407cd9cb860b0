"""A file of JSON objects, one a line or all in a list: captions, sentences, questions, and paths of their pictures."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from compose_vlp.data.json_places import find_places
from compose_vlp.data.places import find_file, find_pictures, no_records, picture_at, reads_so
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.data.stores import is_address, shown_address
from compose_vlp.registry import Settings, source


@source("jsonl")
class JsonLines(Source):
    """Records of a file of JSON objects: one a line, or all in a list, as ALBEF's and BLIP's authors publish them.

    Every key is a field; those named in `pictures` hold paths of picture files. Objects are read when they are asked
    for, pictures decoded when an input reads them. A line that is no JSON object, a picture that is missing or broken:
    the record is skipped and counted.
    """

    class Config(Settings):
        """Where the objects and the pictures are."""

        path: str = Field(
            description="the file, on disk or in a store (`s3://bucket/lines.jsonl`); UTF-8, one JSON object a "
            "line, or a list of them"
        )
        images: str | None = Field(
            None, description="folder, of a store too, that picture paths start from; the file's own if left out"
        )
        pictures: tuple[str, ...] = Field(("image",), description="fields that hold paths of pictures")
        only: dict[str, str] = Field(
            default_factory=dict, description="take only the records whose fields read so, as in {label: true}"
        )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = config
        self.file = find_file(config.path)
        self.name = shown_address(config.path) if is_address(config.path) else str(self.file)
        self.folder = find_pictures(config.images, config.path)
        self.places = find_places(self.file, self._wanted if config.only else lambda *_: True)
        if not len(self):
            raise no_records(self.name, config.only)

    def __len__(self) -> int:
        return len(self.places.starts)

    def record(self, index: int) -> Record:
        where = self._where(int(self.places.numbers[index]))
        fields = _parse(self._text(index), where)
        for name in self.settings.pictures:
            if name in fields:
                fields[name] = picture_at(self.folder, fields[name], name, where)
        return fields

    def _wanted(self, text: bytes, number: int) -> bool:
        try:
            fields = _parse(text, str(number))
        except BadRecord:
            return True  # a broken line is to be counted and named when it is read, not lost here
        return reads_so(fields, self.settings.only)

    def _where(self, number: int) -> str:
        return f"{self.name}, entry {number}" if self.places.in_list else f"{self.name}:{number}"

    def _text(self, index: int) -> bytes:
        """Opened anew each time (microseconds): an open file would share its place among forked workers."""
        with self.file.open("rb") as stream:
            stream.seek(int(self.places.starts[index]))
            return stream.read(int(self.places.sizes[index]))


def _parse(text: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:  # a wrong encoding is a ValueError too
        raise BadRecord(f"{where}: no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadRecord(f"{where}: {type(fields).__name__} where a JSON object was expected")
    return fields
