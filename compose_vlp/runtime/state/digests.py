"""Digests of data: two runs whose tags agree have trained on the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.plain import guess
from compose_vlp.files import written_path
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.training.stage_evaluation import data_read

WHOLE = 64 << 20
"""Files up to so many bytes (annotations) are read whole, larger ones (shards) at both ends: seconds matter here."""
END = 1 << 20
DIGITS = 16


def data_digests(blueprint: CheckedBlueprint) -> dict[str, str]:
    """`use digest` of every entry of `data` that a stage trains on or is evaluated on, parts of mixtures too.

    A digest covers the entry's settings and the files that these name (those in a named folder by name and size):
    annotations in full, what is larger than 64 MB by its size and both ends. Pictures that annotations name are not
    read. It changes nothing and never fails: what cannot be read is left to who opens the data.
    """
    found: dict[str, str] = {}
    waiting = [name for stage in blueprint.stages.values() for name in data_read(stage)]
    while waiting:
        name = waiting.pop()
        entry = blueprint.document.at("data", name)
        if name in found or entry is None or not isinstance(entry.value, Mapping):
            continue
        settings = guess(entry.value)
        waiting += settings.get("mix") or ()
        found[name] = f"{settings.get('use', 'mix')} {_digest(settings)}"
    return dict(sorted(found.items()))


def _digest(settings: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for word in _words(settings):
        for part in _contents(written_path(word)):
            digest.update(part)
    return digest.hexdigest()[:DIGITS]


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _words(one)


def _contents(path: Path) -> Iterator[bytes]:
    """What stands for a file or folder in a digest; nothing for what is neither."""
    try:
        if path.is_dir():
            for file in sorted(path.iterdir()):
                yield f"{file.name} {file.stat().st_size}\n".encode()
        elif path.is_file():
            size = path.stat().st_size
            yield str(size).encode()
            with path.open("rb") as opened:
                if size <= WHOLE:
                    while part := opened.read(END):
                        yield part
                else:
                    yield opened.read(END)
                    opened.seek(-END, 2)
                    yield opened.read(END)
    except (OSError, ValueError):  # no permission, a name too long for a path: not a file of ours
        return
