"""What differs in meaning between two documents: not order, not quotes, not how a number is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compose_vlp.blueprint.document import DRAFT, Document, is_expression
from compose_vlp.blueprint.names import tokens
from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.trees import Path, dotted
from compose_vlp.blueprint.write import expression_text, place

_SAYS_NOTHING = ("name", "title", "paper")
"""Sections that change no model and no training; so do free ones."""


@dataclass(frozen=True)
class Change:
    """A path with its values on both sides (None where it is not), and where they were written."""

    path: Path
    before: str | None
    after: str | None
    before_at: str = ""
    after_at: str = ""

    @property
    def sign(self) -> str:
        """`+` came, `-` went, `~` changed."""
        return "+" if self.before is None else "-" if self.after is None else "~"

    def __str__(self) -> str:
        name = dotted(self.path)
        if self.before is None:
            return f"+ {name}: {self.after}  ({self.after_at})"
        if self.after is None:
            return f"- {name}: {self.before}  ({self.before_at})"
        return f"~ {name}: {self.before} -> {self.after}  ({self.after_at} replaces {self.before_at})"

    def as_data(self) -> dict[str, str | None]:
        """For `--json`."""
        return {
            "path": dotted(self.path),
            "before": self.before,
            "after": self.after,
            "before_at": self.before_at or None,
            "after_at": self.after_at or None,
        }


def diff(before: Document, after: Document) -> list[Change]:
    """The changes from one document to the other, section by section, in the order of their entries."""
    changes = _mappings(before.root, after.root, ())
    return [
        change for change in changes if change.path[0] not in _SAYS_NOTHING and not change.path[0].startswith(DRAFT)
    ]


def _mappings(before: Mapping, after: Mapping, path: Path) -> Iterator[Change]:
    names = [*before.names, *(name for name in after.names if name not in before)]
    for name in names:
        yield from _entries(before.entry(name), after.entry(name), (*path, name))


def _entries(before: Entry | None, after: Entry | None, path: Path) -> Iterator[Change]:
    old, new = (entry.value if entry else None for entry in (before, after))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _mappings(old, new, path)
    elif len(path) == 1 and isinstance(old or new, Mapping):
        empty = Mapping((), (old or new).span)  # type: ignore[union-attr]
        yield from _mappings(
            old if isinstance(old, Mapping) else empty, new if isinstance(new, Mapping) else empty, path
        )
    elif before is None or after is None or meaning(before, path) != meaning(after, path):
        yield Change(path, _shown(before, path), _shown(after, path), _at(before), _at(after))


def meaning(entry: Entry, path: Path) -> Any:
    """Give what an entry says, so that two that say the same are equal: tokens of an expression, values of all else."""
    if is_expression(path, entry.value):
        return [token.text for token in tokens(expression_text(entry))]
    return _comparable(guess(entry.value))


def _comparable(value: Any) -> Any:
    """`true` is not 1, although Python finds them equal; 768 and 768.0 are one number."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return (isinstance(value, bool), value)


def _shown(entry: Entry | None, path: Path) -> str | None:
    if entry is None:
        return None
    if is_expression(path, entry.value):
        return expression_text(entry)
    return entry.value.text if isinstance(entry.value, Scalar) else _brief(guess(entry.value))


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_brief, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _at(entry: Entry | None) -> str:
    return place(entry.value.span) if entry else ""
