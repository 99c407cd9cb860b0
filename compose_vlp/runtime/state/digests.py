"""Digests of data: what a run was trained on, so that another run, a resumed one or an evaluation can be held to it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.plain import guess
from compose_vlp.data.places import find_files, find_stored
from compose_vlp.data.stores import Stored, is_address
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.sources import data_read

WHOLE = 64 << 20
"""Files up to so many bytes (annotations) are read whole, larger ones (shards) at both ends and in samples. Files
of one pattern share this and what follows, so that a thousand shards take no longer than one."""
END = 1 << 20
SAMPLES = 64
"""Of a larger file so many pieces between its ends are read, evenly spread."""
SAMPLE = 1 << 16
LISTED = 200_000
"""Files of a folder that are listed; more are not looked at."""
DIGITS = 16


@dataclass(frozen=True)
class DataDigest:
    """What an entry of `data` was.

    Attributes:
        use: Its kind.
        settings: Digest of its settings, as they are written.
        contents: Digest of its settings but for paths, and of the files that these name.
    """

    use: str
    settings: str
    contents: str

    def __str__(self) -> str:
        return f"{self.use} {self.contents}"


def data_digests(blueprint: CheckedBlueprint) -> dict[str, DataDigest]:
    """Compute the digest of every entry of `data` that a stage trains on or is evaluated on, parts of mixtures too.

    Annotations count in full, a file of more than 64 MB by its size, both ends and samples between, a folder by the
    names and sizes of its files. Pictures that annotations name are not read. It changes nothing and never fails: what
    cannot be read is left to who opens the data.
    """
    digests: dict[str, DataDigest] = {}
    waiting = [name for stage in blueprint.stages.values() for name in data_read(stage)]
    while waiting:
        name = waiting.pop()
        digest = None if name in digests else data_digest(blueprint, name)
        if digest is not None:
            digests[name] = digest
            waiting += _parts(blueprint, name)
    return dict(sorted(digests.items()))


def data_digest(blueprint: CheckedBlueprint, name: str) -> DataDigest | None:
    """Compute the digest of one entry of `data`, without the parts of a mixture; None where there is none."""
    settings = _settings(blueprint, name)
    if settings is None:
        return None
    contents = hashlib.sha256()
    bare = _bare(settings, contents.update)
    contents.update(json.dumps(bare, sort_keys=True).encode())
    written = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    return DataDigest(str(settings.get("use", "mix")), written.hexdigest()[:DIGITS], contents.hexdigest()[:DIGITS])


def changed(blueprint: CheckedBlueprint, before: dict[str, Any], names: list[str] | None = None) -> list[str]:
    """List the entries of `data` that a run's `run.json` knows, and that hold something else now.

    Args:
        blueprint: The run's, perhaps with changes.
        before: What `as_json` said when the run began.
        names: The entries that are asked about, with the parts of mixtures; those that stages read if left out. One
            whose settings were changed is other data, and is not compared.
    """
    now = data_digests(blueprint)
    for name in names or ():
        now |= {
            entry: digest for entry in (name, *_parts(blueprint, name)) if (digest := data_digest(blueprint, entry))
        }
    asked = set(now) if names is None else {entry for name in names for entry in (name, *_parts(blueprint, name))}
    differing = []
    for name in sorted(asked & before.keys() & now.keys()):
        then, digest = DataDigest(**before[name]), now[name]
        same_meant = names is None or then.settings == digest.settings
        if same_meant and then.contents != digest.contents:
            differing.append(name)
    return differing


def refuse_changed(blueprint: CheckedBlueprint, before: dict[str, Any]) -> None:
    """Stop where the data of a run is not what it was trained on so far.

    Raises:
        UserError: names the entries of `data`.
    """
    other = changed(blueprint, before)
    if other:
        names = " and ".join(f"`{name}`" for name in other)
        raise UserError(
            f"data {names} is not what this run was trained on so far: its files or its settings have changed",
            hints=["`--changed-data` goes on with it all the same"],
        )


def as_json(digests: dict[str, DataDigest]) -> dict[str, Any]:
    """For `run.json`."""
    return {name: vars(digest) for name, digest in digests.items()}


def _settings(blueprint: CheckedBlueprint, name: str) -> dict[str, Any] | None:
    entry = blueprint.document.at("data", name)
    if entry is None or not isinstance(entry.value, Mapping):
        return None
    settings: dict[str, Any] = guess(entry.value)
    return settings


def _parts(blueprint: CheckedBlueprint, name: str) -> list[str]:
    settings = _settings(blueprint, name) or {}
    return list(settings.get("mix") or ())


def _bare(value: Any, update: Any) -> Any:
    """Settings without what names files, whose contents `update` gets instead."""
    if is_address(value):
        for stored in _stored(value):
            update(f"{stored.name} {stored.size} {stored.version}\n".encode())
        return value
    if isinstance(value, str):
        files = _files(value)
        parts = 0
        for path in files:
            for part in _contents(path, len(files)):
                update(part)
                parts += 1
        return None if parts else value
    if isinstance(value, dict):
        return {name: _bare(value[name], update) for name in sorted(value)}
    return [_bare(item, update) for item in value] if isinstance(value, list) else value


def _files(word: str) -> list[Path]:
    """List what a setting names: a file, a folder, or the shards of a pattern. A run's paths are absolute."""
    try:
        if not Path(word).expanduser().is_absolute():
            return []
        return find_files(word) if any(sign in word for sign in "*?{") else [Path(word).expanduser()]
    except (UserError, OSError, ValueError):
        return []


def _stored(address: str) -> list[Stored]:
    """List the files of a store that an address means."""
    try:
        return find_stored(address)
    except UserError:
        return []


def _contents(path: Path, count: int) -> Iterator[bytes]:
    """Give what stands for a file (of `count`, which share the work) or a folder; nothing for what is neither."""
    whole, end, samples = WHOLE // count, max(END // count, min(END, 1 << 12)), SAMPLES // count
    try:
        if path.is_dir():
            yield from _listing(path)
        elif path.is_file():
            size = path.stat().st_size
            yield f"{path.name} {size}\n".encode()
            with path.open("rb") as opened:
                if size <= max(whole, 2 * end):
                    while part := opened.read(END):
                        yield part
                    return
                yield opened.read(end)
                for number in range(samples):
                    opened.seek(end + (size - 2 * end) * number // samples)
                    yield opened.read(SAMPLE)
                opened.seek(-end, 2)
                yield opened.read(end)
    except (OSError, ValueError):  # no permission, a name too long for a path: not a file of ours
        return


def _listing(folder: Path) -> Iterator[bytes]:
    """Names and sizes of the files in a folder and those below it."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            count += 1
            if count > LISTED:
                return
            file = Path(place, name)
            yield f"{file.relative_to(folder)} {file.stat().st_size}\n".encode()
