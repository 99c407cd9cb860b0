"""The manifest of a checkpoint: what it consists of, and which model it is of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from compose_vlp.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 2
"""The highest that is read."""
WHOLE = 1
"""The format of checkpoints whose tensors stand whole in one file for each key of the state."""
DIVIDED = 2
"""The format of those that several processes wrote: a folder for each key, with a file of each process."""

Flat: TypeAlias = dict[str, str | int | float | bool | None]

_SHOWN = 8


@dataclass(frozen=True)
class FileEntry:
    """One file: its size in bytes and its digest."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        step: How far training was.
        sequence: The number of this checkpoint in its folder: the last one saved is not always of the highest step.
        files: Every other file.
        blueprint: What determines the model: paths and values.
        format: Version of the layout.
    """

    step: int
    sequence: int
    files: dict[str, FileEntry]
    blueprint: Flat | None
    format: int = WHOLE

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Sizes and digests of the files of a folder."""
    return {file.name: describe_file(file) for file in sorted(folder.iterdir()) if file.is_file()}


def describe_file(file: Path) -> FileEntry:
    """Size and digest of a file."""
    return FileEntry(file.stat().st_size, _digest(file))


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the checkpoint at `path`.

    Raises:
        UserError: There is none, it is damaged, or of a later version.
    """
    file = path / MANIFEST
    if not path.is_dir():
        raise UserError(f"there is no checkpoint at {path}")
    if not file.is_file():
        raise UserError(f"{path} is not a whole checkpoint: it has no {MANIFEST}")
    try:
        read = json.loads(file.read_text())
        if read["format"] > FORMAT:
            raise UserError(f"{path} was saved by a later version of compose-vlp (format {read['format']})")
        files = {name: FileEntry(**entry) for name, entry in read["files"].items()}
        return Manifest(**read | {"files": files})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def check_files(path: Path, manifest: Manifest, *, only: Collection[str] | None = None, digests: bool = True) -> None:
    """Compare the files of a checkpoint with its manifest; without `digests` only their sizes, which is quick.

    `only` names files, and folders of files.

    Raises:
        UserError: A file is missing, cut short, or damaged.
    """
    for name, entry in manifest.files.items():
        if only is not None and name not in only and name.partition("/")[0] not in only:
            continue
        file = path / name
        if not file.is_file():
            raise UserError(f"{file} is missing: the checkpoint is not whole")
        size = file.stat().st_size
        if size != entry.bytes:
            what = "is cut short" if size < entry.bytes else "is too long"
            raise UserError(f"{file} {what}: {size:,} bytes, where {entry.bytes:,} were saved")
        if digests and _digest(file) != entry.sha256:
            raise UserError(f"{file} is damaged: its SHA-256 is not the one that was saved")


def check_blueprint(path: Path, manifest: Manifest, here: Flat) -> None:
    """Compare the model of a checkpoint with the one at hand. A checkpoint that does not say is taken.

    Raises:
        UserError: They differ; the first differences are named.
    """
    there = manifest.blueprint
    if there is None or there == here:
        return
    differences = [
        f"{key}: {_shown(there, key)} in the checkpoint, {_shown(here, key)} here"
        for key in sorted(there.keys() | here.keys())
        if key not in there or key not in here or there[key] != here[key]
    ]
    rest = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    raise UserError(f"checkpoint {path} is of another blueprint", hints=[*differences[:_SHOWN], *rest])


def flatten(nested: Mapping[str, Any]) -> Flat:
    """Nested mappings and lists of JSON values as one mapping of dotted paths."""
    flat: Flat = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                walk(item, f"{path}.{index}")
        elif value is None or isinstance(value, (str, int, float, bool)):
            flat[path] = value
        else:
            raise TypeError(f"{path} of the blueprint is a {type(value).__name__}, not a JSON value")

    walk(nested, "")
    return flat


def _shown(flat: Flat, key: str) -> str:
    return repr(flat[key]) if key in flat else "absent"


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
