"""Nodes as Python's own values, where no field says what type they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compose_vlp.blueprint import scalars
from compose_vlp.blueprint.nodes import Items, Mapping, Node


def guess(node: Node) -> Any:
    """A value of no declared type: JSON's types, quoted text stays text."""
    if isinstance(node, Items):
        return [guess(item) for item in node]
    if isinstance(node, Mapping):
        return {entry.name: guess(entry.value) for entry in node}
    if node.style != "plain":
        return node.text
    if node.text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[node.text]
    for read in (scalars.read_int, scalars.read_float):
        try:
            return read(node.text)
        except scalars.ScalarError:
            continue
    return node.text


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings and lists with its path, such as `losses.itc.soft.0`."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in entries:
            yield from leaves(item, f"{path}.{name}" if path else str(name))
    else:
        yield path, value
