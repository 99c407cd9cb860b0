"""The merged document as data: plain values, and beside them where each came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compose_vlp.blueprint.document import Document, is_expression
from compose_vlp.blueprint.nodes import Entry, Mapping
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.trees import Path, dotted
from compose_vlp.blueprint.write import expression_text, in_order, place


def as_data(document: Document) -> dict[str, Any]:
    """`{name, files, document, origins, replaces}`, as `--json` prints it; the last two map paths to places."""
    entries = list(_entries(document.root, ()))
    return {
        "name": document.name,
        "files": list(document.files),
        "document": values(document),
        "origins": {dotted(path): place(entry.value.span) for path, entry in entries},
        "replaces": {dotted(path): place(entry.earlier.value.span) for path, entry in entries if entry.earlier},
    }


def values(document: Document) -> dict[str, Any]:
    """The document as nested dictionaries of plain values; expressions are text, `previous` written out."""
    return {entry.name: _value(entry, (entry.name,)) for entry in in_order(document.root)}


def _value(entry: Entry, path: Path) -> Any:
    if is_expression(path, entry.value):
        return expression_text(entry)
    if isinstance(entry.value, Mapping) and len(path) < 2:
        return {child.name: _value(child, (*path, child.name)) for child in entry.value}
    return guess(entry.value)


def _entries(mapping: Mapping, above: Path) -> Iterator[tuple[Path, Entry]]:
    """Every entry that is one value or a list; of a mapping its fields."""
    for entry in mapping:
        path = (*above, entry.name)
        if isinstance(entry.value, Mapping):
            yield from _entries(entry.value, path)
        else:
            yield path, entry
