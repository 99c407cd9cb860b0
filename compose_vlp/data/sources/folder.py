"""A folder of pictures: captions in text files beside them, classes by the folders they are in."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from pydantic import Field

from compose_vlp.data.places import PICTURES, find_folder
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.errors import UserError
from compose_vlp.files import decoded
from compose_vlp.registry import Settings, source

NAMED = 6
"""Endings of files that were passed over that are named, the commonest."""


@source("folder")
class Folder(Source):
    """Every picture below a folder, in the order of their paths; needs no annotations. Links are followed.

    Fields of a record: `image`; `file`, its path in the folder; `label`, the name of the folder it is in; and
    `caption`, the text of the file of its name that ends in `.txt`.
    """

    class Config(Settings):
        """Where the pictures are."""

        path: str = Field(description="the folder; those in it are looked through too")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.folder = find_folder(config.path)
        walk = _Walk(self.folder)
        self.files = sorted(file for file in walk.files if _ending(file) in PICTURES)
        pictures = {_stem(file) for file in self.files}
        texts = {_stem(file): file for file in walk.files if _ending(file) == ".txt" and _stem(file) in pictures}
        self.texts = texts
        rest = Counter(_ending(file) for file in walk.files if file not in set(self.files) | set(texts.values()))
        self.notes = tuple(_told(rest, walk))
        if not self.files:
            hints = [*self.notes, f"looked for {', '.join(sorted(PICTURES))}"]
            raise UserError(f"no picture lies in {config.path!r}", hints=hints)

    def __len__(self) -> int:
        return len(self.files)

    def record(self, index: int) -> Record:
        name = self.files[index]
        file = self.folder / name
        record = {"image": file, "file": name, "label": file.parent.name}
        text = self.texts.get(_stem(name))
        return {**record, "caption": _text(self.folder / text)} if text is not None else record


class _Walk:
    """Every file below a folder, by its path in it; a folder that several links lead to is gone through once."""

    def __init__(self, top: Path) -> None:
        self.files: list[str] = []
        self.hidden = 0
        self.broken_links = 0
        self.again: list[str] = []
        self.closed: list[str] = []
        self.seen: set[tuple[int, int]] = set()
        links = self._walk(top, "")
        while links:  # after all that is no link, so that a folder has its own name and not a link's
            link = links.pop(0)
            links += self._walk(top / link, link)

    def _walk(self, place: Path, name: str) -> list[str]:
        """Go through a folder, without its links to others; gives those."""
        key = (place.stat().st_dev, place.stat().st_ino)
        if key in self.seen:
            self.again.append(name)
            return []
        self.seen.add(key)
        links: list[str] = []
        try:
            with os.scandir(place) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.closed.append(f"{name} ({error.strerror})")
            return []
        for entry in entries:
            path = f"{name}/{entry.name}" if name else entry.name
            if entry.name.startswith("."):
                self.hidden += 1
            elif entry.is_dir(follow_symlinks=False):
                links += self._walk(place / entry.name, path)
            elif entry.is_dir():
                links.append(path)
            elif entry.is_file():
                self.files.append(path)
            elif entry.is_symlink():
                self.broken_links += 1
        return links


def _told(rest: Counter[str], walk: _Walk) -> list[str]:
    """Say what was passed over, and why."""
    notes = []
    if rest:
        kinds = [f"{count:,} {ending or 'without an ending'}" for ending, count in rest.most_common(NAMED)]
        others = sum(rest.values()) - sum(count for _, count in rest.most_common(NAMED))
        notes.append(f"passed over, being neither pictures nor their captions: {', '.join(kinds)}"
                    + (f", {others:,} others" if others else ""))  # fmt: skip
    if walk.hidden:
        notes.append(f"passed over, being hidden: {walk.hidden:,} files and folders whose names begin with a dot")
    if walk.broken_links:
        notes.append(f"passed over: {walk.broken_links:,} links to nothing")
    if walk.closed:
        notes.append(f"passed over, since they cannot be opened: {', '.join(walk.closed[:NAMED])}")
    if walk.again:
        notes.append(f"passed over, being links to folders that are here already: {', '.join(walk.again[:NAMED])}")
    return notes


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()  # noqa: PTH122 - a million files


def _stem(file: str) -> str:
    return os.path.splitext(file)[0]  # noqa: PTH122


def _text(file: Path) -> str:
    try:
        return decoded(file.read_bytes()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{file}: {error}") from error
