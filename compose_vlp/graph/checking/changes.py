"""Mistakes shown where the user made them: a parent's line that no longer fits points at the change that it reads.

A parent is sound by itself, so that what its lines fall over is something that a later file or an override changed.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import COMMAND_LINE, Entry, Mapping, Scalar
from compose_vlp.blueprint.reads import Key, Reads
from compose_vlp.errors import Problem, Span


def at_their_changes(problems: Sequence[Problem], document: Document, before: Iterable[Problem] = ()) -> list[Problem]:
    """The problems, those of parents' lines at the change which they follow from; several of one change are one.

    `before` are problems that were found while merging, whose places stay. What follows from a value that is itself a
    mistake is left out.
    """
    changes = _Changes(document)
    stay = set(before)
    kept: dict[int, Problem] = {}
    moved: dict[Span, int] = {}
    reported = [problem.span for problem in problems if problem.span is not None]
    for number, problem in enumerate(problems):
        place = None if problem in stay else changes.cause(problem)
        if place is None:
            if problem in stay or not changes.is_broken(problem, reported):
                kept[number] = problem
        elif any(_within(span, place) and span != problem.span for span in reported):
            continue
        elif place in moved:
            first = kept[moved[place]]
            assert problem.span is not None
            related = (*first.related, (f"and {problem.message},", problem.span))
            kept[moved[place]] = dataclasses.replace(first, related=related)
        else:
            assert problem.span is not None
            moved[place] = number
            related = (("it is read", problem.span), *problem.related)
            kept[number] = dataclasses.replace(problem, span=place, related=related)
    return list(kept.values())


def _within(span: Span, place: Span) -> bool:
    return (
        span.file == place.file
        and span.line == place.line
        and place.column <= span.column
        and span.end_column <= place.end_column
    )


class _Changes:
    """The changes that later files made, and the readers of each."""

    def __init__(self, document: Document) -> None:
        self.reads = Reads(document.root)
        self.ranks = {name: number for number, name in enumerate((*document.files, COMMAND_LINE))}
        self.entries: dict[Key, Entry] = {
            (section.name, entry.name): entry
            for section in document.root
            if isinstance(section.value, Mapping)
            for entry in section.value
        }
        self.readers: dict[Key, list[Key]] = defaultdict(list)
        for key, references in self.reads.references.items():
            for reference in references:
                for target in self.reads.targets(reference):
                    self.readers[target].append(key)

    def cause(self, problem: Problem) -> Span | None:
        """The change that a problem of an earlier file follows from: the latest file's, likely ones first."""
        key = self._key(problem.span) if problem.span is not None else None
        if key is None or problem.span is None or problem.span.file not in self.ranks:
            return None
        levels = self._reached(key, problem.span)
        for file, rank in sorted(self.ranks.items(), key=lambda item: -item[1]):
            if rank <= self.ranks[problem.span.file]:
                return None
            changes = [self._change(reached, file, problem.message) for level in levels for reached in level]
            places = [change for change in changes if change is not None]
            likely = (place for place, is_likely in places if is_likely)
            nearest = next(likely, places[0][0] if places else None)
            if nearest is not None:
                return nearest
        return None

    def is_broken(self, problem: Problem, reported: Iterable[Span]) -> bool:
        """Tell whether a problem is about a component one of whose settings is a mistake itself."""
        named = re.match(r"`(\w+)`: `(\w+)`", problem.message)
        entry = self.entries.get(("components", named[1])) if named else None
        if named is None or entry is None or not isinstance(entry.value, Mapping):
            return False
        setting = entry.value.entry(named[2])
        if setting is None:
            return False
        return any(_within(span, setting.value.span) for span in reported if span != problem.span)

    def _key(self, span: Span) -> Key | None:
        """The entry in which a place stands."""
        for key, entry in self.entries.items():
            fields = entry.value.entries if isinstance(entry.value, Mapping) else ()
            places = [entry.key.span, *(place for field in fields for place in (field.key.span, field.value.span))]
            if not isinstance(entry.value, Mapping):
                places.append(entry.value.span)
            if any(_within(span, place) for place in places):
                return key
        return None

    def _reached(self, start: Key, span: Span) -> list[list[Key]]:
        """Give what an entry reads, level by level, what stands nearest to the place first."""
        seen, level = {start}, self._targets(start, span)
        if start[0] == "components":
            level = [start, *self.readers[start]]
        levels: list[list[Key]] = []
        while level:
            fresh = [key for key in dict.fromkeys(level) if key not in seen or key == start]
            seen |= set(fresh)
            levels.append(fresh)
            level = [target for key in fresh for target in self._targets(key, None) if target not in seen]
        return levels

    def _targets(self, key: Key, span: Span | None) -> list[Key]:
        references = list(self.reads.references.get(key, ()))
        if span is not None:
            references.sort(
                key=lambda reference: (reference.span.line != span.line, abs(reference.span.end_column - span.column))
            )
        return [target for reference in references for target in self.reads.targets(reference)]

    def _change(self, key: Key, file: str, message: str) -> tuple[Span, bool] | None:
        """Give what a file changed of an entry: the field that the message names, else the kind, else the only one.

        Of an expression, of a named field and of a kind it is likely that a mistake follows; of another setting, not.
        """
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not isinstance(entry.value, Mapping):
            return (
                (entry.value.span, True) if isinstance(entry.value, Scalar) and entry.value.span.file == file else None
            )
        fields = [field for field in entry.value if field.value.span.file == file]
        if not fields:
            return None
        named = [field for field in fields if re.search(rf"\b{re.escape(field.name)}\b", message)]
        kinds = [field for field in fields if field.name in ("use", "type")]
        chosen = (named or kinds or fields)[0]
        return chosen.value.span, bool(named or kinds)
