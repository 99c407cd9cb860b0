"""What has been merged so far, and what was said about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from compose_vlp.blueprint.document import Removed
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.reads import Key, Reads, Unresolved
from compose_vlp.blueprint.trees import without
from compose_vlp.errors import Problem, Span

FieldsOf: TypeAlias = Callable[[str], frozenset[str] | None]
"""The keys that an entry of a kind may have, or None where no kind has that name."""

KindNames: TypeAlias = Callable[[], Iterable[str]]
"""The names of all kinds, for messages."""


@dataclass
class State:
    """A merge in progress.

    `missing` are names that are read but gone, and reported; `faulty` are entries about whose place in the blueprint
    something was said already; `notes` say what went without being a mistake.
    """

    root: Mapping
    fields_of: FieldsOf | None = None
    kinds: KindNames | None = None
    removed: list[Removed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    faulty: set[Key] = field(default_factory=set)

    def gone(self, name: str, sections: Iterable[str] = ()) -> Removed | None:
        """The latest removal of an entry of that name (in one of `sections`), for messages."""
        allowed = tuple(sections)
        return next((r for r in self.removed[::-1] if r.name == name and (not allowed or r.section in allowed)), None)

    def remove(self, removed: Removed) -> None:
        """Take an entry out and remember that it was there."""
        self.root = without(self.root, (removed.section, removed.name))
        self.removed.append(removed)

    def kinds_with(self, key: str) -> list[str]:
        """The kinds that have a field of that name."""
        if self.kinds is None or self.fields_of is None:
            return []
        return sorted(kind for kind in self.kinds() if key in (self.fields_of(kind) or ()))

    def is_function(self, name: str) -> bool:
        """Tell whether an unknown name that is called may be a function's; without a catalogue it may."""
        return self.fields_of is None or self.fields_of(name) is not None


def live_keys(reads: Reads, state: State) -> tuple[set[Key], list[Unresolved]]:
    """Give what the roots reach and what they miss; the shared vocabulary too, where nothing it reads was dropped."""
    live, lost = reads.live(reads.roots)
    for key in reads.vocabulary():
        if key not in live:
            reached, unmet = reads.live([key])
            if not any(is_dropped(unresolved, state) for unresolved in unmet):
                live |= reached
    return live, lost


def is_dropped(unresolved: Unresolved, state: State) -> bool:
    """Tell whether a name is missing because something took it away."""
    sections = (unresolved.reference.section,) if unresolved.reference.section else ()
    return state.gone(unresolved.reference.name, sections) is not None


def line(span: Span) -> str:
    """A place as notes say it."""
    return f"{span.file}:{span.line}"
