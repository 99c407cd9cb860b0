"""The sections of a blueprint, and what a merged one looks like to those who check, compile and run it."""

from __future__ import annotations

import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar, Source
from compose_vlp.errors import Span

Form = Literal["text", "list", "mapping", "entries", "names", "kind"]
"""What a section holds: one value, a list, one mapping of settings, named entries, one name or a list of names, or one
name or a mapping of settings."""


class Section(NamedTuple):
    """A top-level key. `named` is what an entry of it is called in messages."""

    form: Form
    about: str
    named: str = ""


SECTIONS: Dict[str, Section] = {
    "name": Section("text", "what runs and reports call it; the file's name, if left out"),
    "title": Section("text", "one line for people"),
    "paper": Section("text", "where the idea is published"),
    "extends": Section("names", "blueprints that this one begins from, by name or path"),
    "drop": Section("names", "patterns of paths that go, of everything merged before this file"),
    "params": Section("entries", "constants and schedules, read as `$name`", "param"),
    "inputs": Section("entries", "what a record gives: image, text, id, label, number", "input"),
    "components": Section("entries", "parts with weights, state, randomness or settings", "component"),
    "adapters": Section("entries", "what changes linear maps that patterns name, as LoRA does", "adapter"),
    "teachers": Section("entries", "worlds whose weights follow the student's", "teacher"),
    "graph": Section("entries", "named values: one expression each", "graph entry"),
    "losses": Section("entries", "what training lowers", "loss"),
    "outputs": Section("entries", "what the finished model can be asked for", "output"),
    "start": Section("list", "where weights come from, in order; the first match wins"),
    "stages": Section("entries", "what is trained on what, for how long, in order", "stage"),
    "length": Section("text", "how long a stage is, where it does not say"),
    "batch": Section("text", "records a step, over all processes, where a stage does not say"),
    "train": Section("names", "patterns of what is trained, where a stage does not say"),
    "freeze": Section("names", "patterns of what is not trained, where a stage does not say"),
    "optimizer": Section("mapping", "the optimizer and its rules, where a stage does not say"),
    "precision": Section("text", "the precision of the stages' arithmetic, where a stage does not say"),
    "distribute": Section("kind", "how several processes share the work of a stage, where it does not say"),
    "recompute": Section(
        "names",
        "components whose layers are computed again in the backward, or memory by which they are chosen, where a stage "
        "does not say",
    ),
    "data": Section("entries", "sources of records", "data source"),
    "tracking": Section("mapping", "what is recorded, and where"),
}

NAMESPACE = ("inputs", "params", "components", "teachers", "graph")
"""The sections whose entries share one namespace."""

SHARED_VOCABULARY = ("image_embedding", "text_embedding", "joint", "fused", "matched")
"""Graph entries that papers name alike, so that tasks fit all of them; they may stay unread, and then cost nothing."""

RESERVED = frozenset({"previous", *SECTIONS})
"""Names that no entry of the namespace can take (functions' names are added by the checker, which knows the kinds)."""

NAME = re.compile(r"[^\W\d_]\w*\Z")
"""`name = letter { letter | digit | "_" }`."""

DRAFT = "x-"
"""Top-level keys that begin so are free: kept, and tagged in tracking."""


def is_expression(path: tuple[str, ...], value: Node) -> bool:
    """Tell whether the value at this path is an expression: a graph entry, or an output that is no mapping."""
    return len(path) == 2 and (path[0] == "graph" or (path[0] == "outputs" and isinstance(value, Scalar)))


@dataclass(frozen=True)
class Removed:
    """An entry that was there and is gone, for messages: "dropped at vqa.yaml:3", "blip left it unread".

    `by` is the place that removed it (a `drop`, an override), or None where nothing read it any more after `file`.
    """

    section: str
    name: str
    at: Span
    file: str
    by: Span | None = None

    def __str__(self) -> str:
        if self.by is not None:
            return f"`{self.section}.{self.name}` was dropped at {self.by.file}:{self.by.line}"
        return f"{self.file} left `{self.section}.{self.name}` unread, so it is gone"


@dataclass(frozen=True)
class Document:
    """One blueprint after all files and overrides: a tree whose every value knows the line that it came from.

    `missing` are names that something still reads, whose absence was reported already (a dropped input, say): who
    checks expressions stays silent about them.
    """

    root: Mapping
    files: tuple[str, ...] = ()
    sources: Dict[str, Source] = field(default_factory=dict, repr=False)
    removed: tuple[Removed, ...] = ()
    missing: frozenset[str] = frozenset()

    def section(self, name: str) -> Mapping:
        """The entries of a section; empty where it is not written."""
        node = self.root.get(name)
        return node if isinstance(node, Mapping) else Mapping((), self.root.span)

    def at(self, *path: str) -> Entry | None:
        """The entry at a path such as `("components", "vision", "depth")`."""
        mapping: Node | None = self.root
        entry = None
        for name in path:
            entry = mapping.entry(name) if isinstance(mapping, Mapping) else None
            mapping = entry.value if entry else None
        return entry

    def text(self, name: str) -> str:
        """A one-value section's text; empty where it is not written."""
        node = self.root.get(name)
        return node.text if isinstance(node, Scalar) else ""

    def items(self, name: str) -> tuple[Node, ...]:
        """A section that is a list, or one value that stands for a list of one."""
        node = self.root.get(name)
        return as_items(node)

    @property
    def name(self) -> str:
        return self.text("name")

    @cached_property
    def params(self) -> Mapping:
        return self.section("params")

    @cached_property
    def inputs(self) -> Mapping:
        return self.section("inputs")

    @cached_property
    def components(self) -> Mapping:
        return self.section("components")

    @cached_property
    def adapters(self) -> Mapping:
        return self.section("adapters")

    @cached_property
    def teachers(self) -> Mapping:
        return self.section("teachers")

    @cached_property
    def graph(self) -> Mapping:
        return self.section("graph")

    @cached_property
    def losses(self) -> Mapping:
        return self.section("losses")

    @cached_property
    def outputs(self) -> Mapping:
        return self.section("outputs")

    @cached_property
    def stages(self) -> Mapping:
        return self.section("stages")

    @cached_property
    def data(self) -> Mapping:
        return self.section("data")

    @cached_property
    def names(self) -> Dict[str, tuple[str, Entry]]:
        """The one namespace: name -> (section, entry). Of two that clash the first counts."""
        entries: dict[str, tuple[str, Entry]] = {}
        for section in NAMESPACE:
            for entry in self.section(section):
                entries.setdefault(entry.name, (section, entry))
        return entries

    def lines(self) -> dict[str, tuple[str, ...]]:
        """The lines of every source, by file name, for the excerpts of errors."""
        return {name: source.lines for name, source in self.sources.items()}


def as_items(node: Node | None) -> tuple[Node, ...]:
    """A list's items; one value is read as a list of one, nothing as an empty list."""
    if node is None:
        return ()
    return node.items if isinstance(node, Items) else (node,)


def kind_of(entry: Entry) -> Scalar | None:
    """Give what an entry's `use` (or an input's `type`) says."""
    if not isinstance(entry.value, Mapping):
        return None
    kind = entry.value.get("use") or entry.value.get("type")
    return kind if isinstance(kind, Scalar) else None
