"""Who reads whom in a merged blueprint: the edges along which entries stay alive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from compose_vlp.blueprint.document import NAMESPACE, SHARED_VOCABULARY, as_items, is_expression
from compose_vlp.blueprint.names import Read, names_read
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.trees import scalars
from compose_vlp.errors import Span

Key = tuple[str, str]
"""Section and name of an entry; of a section that is one value, its name and ''."""

_WANTED = ("outputs", "stages", "data", "adapters")
_READERS = (*NAMESPACE, "losses", *_WANTED)
"""Sections whose entries read others; those that are wanted for their own sake last."""

_DEFAULTS = (
    "length",
    "batch",
    "train",
    "freeze",
    "optimizer",
    "precision",
    "distribute",
    "recompute",
    "tracking",
    "start",
)
_LOOKUPS = {("inputs", "tokenizer"): "components", ("inputs", "like"): "inputs", ("stages", "losses"): "losses"}
"""Fields whose value is a name, and the section where it is looked up."""

OWN = "own"
"""In `share`, the part that a component keeps for itself."""


class Reference(NamedTuple):
    """A name that is read, with its place; `section` is where it is looked up ('' is the one namespace)."""

    name: str
    scalar: Scalar
    start: int
    end: int
    section: str = ""
    called: bool = False

    @property
    def span(self) -> Span:
        return self.scalar.place(self.start, self.end)


class Unresolved(NamedTuple):
    """A reference of `reader` that no entry answers to."""

    reader: Key
    reference: Reference


@dataclass
class Reads:
    """All references of a merged root, by the entry that reads."""

    root: Mapping

    def __post_init__(self) -> None:
        self.sections = {name: _mapping(self.root.get(name)) for name in _READERS}
        self.names: dict[str, str] = {}
        for section in NAMESPACE:
            for name in self.sections[section].names:
                self.names.setdefault(name, section)
        self.references: dict[Key, tuple[Reference, ...]] = {}
        for section in _READERS:
            for entry in self.sections[section]:
                self.references[section, entry.name] = tuple(self._of(section, entry))
        for name in _DEFAULTS:
            if (node := self.root.get(name)) is not None:
                self.references[name, ""] = tuple(params_of(node))

    @property
    def roots(self) -> list[Key]:
        """List what is read for its own sake: outputs, stages (or all losses), adapters, data, defaults."""
        roots = [key for key in self.references if key[0] in _WANTED or not key[1]]
        if not self.sections["stages"].entries:
            roots += [key for key in self.references if key[0] == "losses"]
        return roots

    def live(self, roots: Iterable[Key]) -> tuple[set[Key], list[Unresolved]]:
        """The keys that the roots reach, roots included, and what they read on the way that is not there."""
        seen: set[Key] = set()
        lost: list[Unresolved] = []
        waiting = list(roots)[::-1]
        while waiting:
            key = waiting.pop()
            if key in seen:
                continue
            seen.add(key)
            targets: list[Key] = []
            for reference in self.references.get(key, ()):
                meant = self.targets(reference)
                targets += meant
                lost += [] if meant else [Unresolved(key, reference)]
            waiting += targets[::-1]
        return seen, lost

    def targets(self, reference: Reference) -> list[Key]:
        """The entries that a reference means: one, or none, or all that clash for the name."""
        sections = (reference.section,) if reference.section else NAMESPACE
        return [(section, reference.name) for section in sections if reference.name in self.sections[section]]

    def vocabulary(self) -> list[Key]:
        """The graph entries that may stay unread."""
        return [("graph", name) for name in SHARED_VOCABULARY if name in self.sections["graph"]]

    def _of(self, section: str, entry: Entry) -> Iterator[Reference]:
        if is_expression((section, entry.name), entry.value):
            yield from self._expression(entry)
        elif isinstance(entry.value, Mapping):
            yield from self._fields(section, entry.value)
        else:
            yield from params_of(entry.value)

    def _expression(self, entry: Entry) -> Iterator[Reference]:
        """List what an expression reads; `previous` reads what the replaced expression read."""
        assert isinstance(entry.value, Scalar)
        for read in names_read(entry.value.text):
            if read.name == "previous" and not read.is_param:
                if entry.earlier is not None and isinstance(entry.earlier.value, Scalar):
                    yield from self._expression(entry.earlier)
            else:
                yield from self._read(entry.value, read)

    def _read(self, scalar: Scalar, read: Read) -> Iterator[Reference]:
        section = "params" if read.is_param else ""
        yield Reference(read.name, scalar, read.start, read.end, section, read.called)
        if read.fields and read.name in self.sections["teachers"]:
            name = read.fields[0]
            start = scalar.text.index(name, read.end)
            yield Reference(name, scalar, start, start + len(name))

    def _fields(self, section: str, fields: Mapping) -> Iterator[Reference]:
        for field in fields:
            yield from params_of(field.value)
            lookup = _LOOKUPS.get((section, field.name))
            if lookup is not None:
                yield from _words(field.value, lookup)
            elif _may_hold_names(section, field.name):
                yield from self._names_in(field.value, OWN if field.name == "share" else "")

    def _names_in(self, node: Node, no_name: str) -> Iterator[Reference]:
        """List what a field reads that may hold names; a word that is none is a setting, and resolves to nothing."""
        for scalar in scalars(node):
            for read in names_read(scalar.text):
                if not read.is_param and read.name != no_name:
                    yield from self._read(scalar, read)


def _may_hold_names(section: str, field: str) -> bool:
    if section == "losses":
        return field not in ("use", "weight")
    return section == "outputs" or (section, field) in (("components", "share"), ("stages", "set"))


def params_of(node: Node) -> Iterator[Reference]:
    """The `$name`s among the values of a field."""
    for scalar in scalars(node):
        if scalar.text.startswith("$"):
            yield Reference(scalar.text[1:], scalar, 0, len(scalar.text), "params")


def _words(node: Node, section: str) -> Iterator[Reference]:
    for scalar in as_items(node):
        if isinstance(scalar, Scalar) and not scalar.text.startswith("$"):
            yield Reference(scalar.text, scalar, 0, len(scalar.text), section)


def _mapping(node: Node | None) -> Mapping:
    if isinstance(node, Mapping):
        return node
    return Mapping((), node.span if isinstance(node, Scalar | Items) else Span("", 1, 1, 2))
