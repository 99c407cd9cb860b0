"""What the annotation files of captions have in common: pictures, each with several captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from compose_vlp.data.places import find_file, find_pictures
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.errors import UserError


class Captioned(NamedTuple):
    """A picture's file, its captions and its id; or what is wrong with its entry."""

    file: str
    captions: tuple[str, ...]
    id: int | str
    broken: str = ""


EACH = (
    "picture: a record has all captions of a picture, of which training draws one; caption: a record for every caption"
)


class CaptionedConfig(Protocol):
    """What the settings of such a source have; each writes them out, since kinds are read off their own files."""

    @property
    def path(self) -> str: ...
    @property
    def images(self) -> str: ...
    @property
    def each(self) -> Literal["picture", "caption"]: ...


class CaptionedPictures(Source):
    """Fields of a record: `image`; `caption`, one or all; `captions`, always all; `id` and `file` of the picture."""

    def __init__(self, config: CaptionedConfig, entries: Sequence[Captioned]) -> None:
        super().__init__(config)
        self.folder = find_pictures(config.images, config.path)
        self.entries = entries
        if not entries:
            raise UserError(f"{config.path} names no picture")
        self.one_caption = config.each == "caption"
        self.places = [
            (number, caption)
            for number, entry in enumerate(entries)
            for caption in range(max(1, len(entry.captions)) if self.one_caption else 1)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def record(self, index: int) -> Record:
        number, caption = self.places[index]
        entry = self.entries[number]
        if entry.broken:
            raise BadRecord(f"{self.config.path}: {entry.broken}")
        if not entry.captions:
            raise BadRecord(f"{self.config.path}: the picture {entry.file!r} has no caption")
        return {
            "image": self.folder / entry.file,
            "caption": entry.captions[caption] if self.one_caption else list(entry.captions),
            "captions": list(entry.captions),
            "id": entry.id,
            "file": entry.file,
        }


def read_annotations(path: str, *keys: str) -> tuple[Path, dict[str, Any]]:
    """Read a JSON file that is one object and has these keys, each a list.

    Raises:
        UserError: it is not there, is no JSON, or holds something else.
    """
    file = find_file(path)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            held = f"has {', '.join(list(content)[:9])}" if isinstance(content, dict) else "is no object"
            raise UserError(f"{path} has no list {key!r}", hints=[f"it {held}"])
    return file, content
