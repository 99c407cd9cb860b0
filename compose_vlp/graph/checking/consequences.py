"""Mistakes that only follow from others of the same entry: an entry is told of once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Items, Mapping, Node
from compose_vlp.errors import Problem, Span

Place: TypeAlias = tuple[str, int, int]
"""A file, a line and a column."""


def without_consequences(problems: Iterable[Problem], document: Document) -> list[Problem]:
    """Leave out what says little beside another problem.

    That nothing reads an entry says little while something else is wrong with it, unless its name is misspelt: then the
    entry that is meant has what this one lacks.
    """
    problems = list(problems)
    unread = {problem.span: problem for problem in problems if problem.unread}
    if len(unread) in (0, len(problems)):
        return problems
    nodes = sorted(_nodes(document))
    starts = [place for place, _ in nodes]
    dropped: set[int] = set()
    for problem in problems:
        if problem.unread or problem.span is None:
            continue
        before = bisect_right(starts, _start(problem.span)) - 1
        key = nodes[before][1] if before >= 0 and nodes[before][0][0] == problem.span.file else None
        entry = unread.get(key)
        if entry is not None and not entry.misspelt:
            dropped.add(id(entry))
        elif entry is not None and problem.span == entry.span:
            dropped.add(id(problem))
    return [problem for problem in problems if id(problem) not in dropped]


def _nodes(document: Document) -> Iterator[tuple[Place, Span]]:
    """Yield where each key and value begins, and the key of the entry that it belongs to (a section's own its own)."""
    for section in document.root:
        yield _start(section.key.span), section.key.span
        for entry in section.value.entries if isinstance(section.value, Mapping) else ():
            yield _start(entry.key.span), entry.key.span
            for place in _places(entry.value):
                yield place, entry.key.span


def _places(node: Node) -> Iterator[Place]:
    yield _start(node.span)
    if isinstance(node, Mapping):
        for entry in node.entries:
            yield _start(entry.key.span)
            yield from _places(entry.value)
    elif isinstance(node, Items):
        for item in node:
            yield from _places(item)


def _start(span: Span) -> Place:
    return span.file, span.line, span.column
