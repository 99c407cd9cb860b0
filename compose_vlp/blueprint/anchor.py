"""Paths of a blueprint made absolute, so that a run means the same files wherever one stands later."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar

SECTIONS: Final = frozenset({"data", "inputs", "components", "start", "stages"})
"""Where files are named. `graph`, `losses` and `outputs` hold expressions."""
PATHS: Final = frozenset(
    "path paths images folder folders file files table cache classes templates root directory dir".split()  # noqa: SIM905
)
"""Settings that hold paths by their name; others do where what they say looks like one and is there."""
_PATH_NAME: Final = re.compile(r"\w+_(?:path|file|folder|dir|root)")
_PATTERN: Final = re.compile(r"[*?\[{]")
_FILES: Final = re.compile(r"\.(?:csv|tsv|txt|jsonl?|ndjson|tar|parquet|arrow|pth?|safetensors|bin|p)\Z", re.IGNORECASE)
_NAMES: Final = frozenset({"classes", "templates"})
"""What is a file where it is one word, and a list of names or texts elsewhere."""


def anchored(document: Document, folder: Path) -> Document:
    """The document with every relative path read from `folder`.

    A setting that is called as paths are (`PATHS`, `..._file`) is made absolute where its file, folder or the folder of
    its pattern is there, or where it ends as data files do: the name of something on a hub stays. Another setting is
    only where it has a folder or an ending, and is there.
    """
    entries = tuple(
        Entry(entry.key, _anchored(entry.value, folder, "", entry.name == "start"), entry.earlier)
        if entry.name in SECTIONS
        else entry
        for entry in document.root
    )
    return dataclasses.replace(document, root=Mapping(entries, document.root.span))


def _anchored(node: Node, folder: Path, setting: str, start: bool) -> Node:
    """`from` is a file in the section `start`, and a field elsewhere."""
    if isinstance(node, Scalar):
        path = absolute(node.text, folder, "path" if start and setting == "from" else setting)
        return node if path == node.text else dataclasses.replace(node, text=path, style="plain", source=None)
    if isinstance(node, Items):
        inner = "" if setting in _NAMES else setting
        return Items(tuple(_anchored(item, folder, inner, start) for item in node), node.span)
    if setting == "fields":
        return node
    entries = (Entry(entry.key, _anchored(entry.value, folder, entry.name, start), entry.earlier) for entry in node)
    return Mapping(tuple(entries), node.span)


def absolute(text: str, folder: Path, setting: str) -> str:
    """A setting's text with its path from `folder`; as it is where it is no relative path."""
    if not text or "://" in text or "\n" in text or text.startswith(("/", "~")) or Path(text).is_absolute():
        return text
    named = setting in PATHS or _PATH_NAME.fullmatch(setting) is not None
    looks_so = "/" in text.strip("/") or Path(text).suffix != ""
    if not (named or looks_so):
        return text
    pattern = _PATTERN.search(text) if named else None
    fixed = text[: pattern.start()].rpartition("/")[0] if pattern else text
    is_file = named and _FILES.search(text) is not None
    return str(Path(_joined(folder, text))) if is_file or _is_there(folder / fixed) else text


def _joined(folder: Path, text: str) -> str:
    """Plain joining, without resolving links: a pattern is no path that could be resolved."""
    parts = folder.parts
    while text.startswith(("../", "./")):
        here, _, text = text.partition("/")
        parts = parts[:-1] if here == ".." and len(parts) > 1 else parts
    return str(Path(*parts) / text)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or a character that none may have
        return False
