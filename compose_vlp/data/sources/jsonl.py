"""A text file with one JSON object a line: captions, sentences, questions, and the paths of their pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pydantic import Field

from compose_vlp.data.places import find_file, find_folder, no_records, picture_at, reads_so
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.registry import Settings, source


@source("jsonl")
class JsonLines(Source):
    """Records of a JSON lines file. Every key is a field; those named in `pictures` hold paths of picture files.

    Lines are read when they are asked for, pictures decoded when an input reads them. A line that is no JSON object,
    a picture that is missing or broken: the record is skipped and counted.
    """

    class Config(Settings):
        """Where the lines and the pictures are."""

        path: str = Field(description="the file; UTF-8, one JSON object a line")
        images: str | None = Field(None, description="folder that picture paths start from; the file's own if left out")
        pictures: tuple[str, ...] = Field(("image",), description="fields that hold paths of pictures")
        only: dict[str, str] = Field(
            default_factory=dict, description="take only the records whose fields read so, as in {label: true}"
        )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = config
        self.file = find_file(config.path)
        self.folder = find_folder(config.images) if config.images is not None else self.file.parent
        self.starts, self.lines = self._index()
        if not len(self.starts):
            raise no_records(self.file, config.only)

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, index: int) -> Record:
        number = int(self.lines[index])
        fields = self._parse(self._line(index), number)
        for name in self.settings.pictures:
            if name in fields:
                fields[name] = picture_at(self.folder, fields[name], name, f"{self.file}:{number}")
        return fields

    def _index(self) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
        """Where each wanted line starts, and its number in the file."""
        starts, numbers, start = [], [], 0
        with self.file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip() and self._wanted(line, number):
                    starts.append(start)
                    numbers.append(number)
                start += len(line)
        return np.asarray(starts, np.int64), np.asarray(numbers, np.int64)

    def _wanted(self, line: bytes, number: int) -> bool:
        if not self.settings.only:
            return True
        try:
            fields = self._parse(line, number)
        except BadRecord:
            return True  # a broken line is to be counted and named when it is read, not lost here
        return reads_so(fields, self.settings.only)

    def _line(self, index: int) -> bytes:
        """Opened anew each time (microseconds): an open file would share its place among forked workers."""
        with self.file.open("rb") as stream:
            stream.seek(int(self.starts[index]))
            return stream.readline()

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:  # a wrong encoding is a ValueError too
            raise BadRecord(f"{self.file}:{number}: no JSON: {error}") from error
        if not isinstance(fields, dict):
            raise BadRecord(f"{self.file}:{number}: {type(fields).__name__} where a JSON object was expected")
        return fields
