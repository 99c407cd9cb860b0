"""Whether a file has the shape of a blueprint: known sections, each in its form, names that are names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compose_vlp.blueprint.document import DRAFT, NAME, NAMESPACE, RESERVED, SECTIONS
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.errors import Problem, did_you_mean, nearest

_FORMS = {
    "text": "one value",
    "list": "a list: `[...]`, or lines that begin with `- `",
    "mapping": "a mapping: `{key: value}`",
    "entries": "a mapping of named entries",
    "names": "one value or a list",
}


@dataclass(frozen=True)
class Structure:
    """What of a file can be merged, and every mistake in its shape.

    `lost` are the names of entries that were left out, whose readers are not to blame. `clear` is false where more is
    missing than these, so that looking further would only repeat the problems in other words.
    """

    root: Mapping
    problems: tuple[Problem, ...] = ()
    lost: frozenset[str] = frozenset()
    clear: bool = True


def check_structure(root: Mapping) -> Structure:
    """The sections of a file that are known and in their form; what is wrong is left out.

    A section whose name is misspelt is read as the one that is meant, so that it hides no other mistake.
    """
    problems: list[Problem] = []
    kept: list[Entry] = []
    lost: set[str] = set()
    clear = True
    for written in root:
        entry = _meant(written, root)
        if entry is not written:
            problems.append(_unknown(written))
        if entry.name.startswith(DRAFT):
            kept.append(entry)
            continue
        found = list(_section(entry))
        problems += found
        if not found:
            kept.append(entry)
            continue
        sound = [one for one in _entries(entry) if entry.name in SECTIONS and not any(_entry(entry.name, one))]
        lost |= {one.name for one in _entries(entry) if one not in sound}
        if entry.name in SECTIONS and SECTIONS[entry.name].form == "entries":
            clear &= isinstance(entry.value, Mapping)
            if isinstance(entry.value, Mapping):
                kept.append(Entry(entry.key, Mapping(tuple(sound), entry.value.span)))
        elif entry.name not in SECTIONS:
            clear &= "extends" in root or isinstance(entry.value, Mapping)  # a parent may be meant
        else:
            clear &= entry.name not in ("extends", "drop")
    return Structure(Mapping(tuple(kept), root.span), tuple(problems), frozenset(lost), clear)


def _entries(section: Entry) -> tuple[Entry, ...]:
    return section.value.entries if isinstance(section.value, Mapping) else ()


def _meant(section: Entry, root: Mapping) -> Entry:
    """A section of an unknown name as the one that it stands for: the nearest, where its form fits."""
    if section.name in SECTIONS or section.name.startswith(DRAFT):
        return section
    for name in nearest(section.name, SECTIONS, 1):
        empty = isinstance(section.value, Scalar) and section.value.is_empty
        if name not in root and not empty and _has_form(section.value, SECTIONS[name].form):
            return replace(section, key=replace(section.key, text=name))
    return section


def _unknown(section: Entry) -> Problem:
    hints = did_you_mean(section.name, SECTIONS) or (f"sections: {', '.join(SECTIONS)}; `{DRAFT}anything` is free",)
    return Problem(f"`{section.name}` is not a section of a blueprint", section.key.span, hints)


def _section(entry: Entry) -> Iterator[Problem]:
    name, value = entry.name, entry.value
    if name not in SECTIONS:
        yield _unknown(entry)
        return
    form = SECTIONS[name].form
    if isinstance(value, Scalar) and value.is_empty:
        yield Problem(f"`{name}` is empty", entry.key.span, (f"it holds {_FORMS[form]}",))
    elif not _has_form(value, form):
        yield Problem(f"`{name}` holds {_FORMS[form]}", value.span)
    elif form == "entries":
        assert isinstance(value, Mapping)
        for one in value:
            yield from _entry(name, one)
    else:
        yield from empty_values(value)


def _has_form(value: Node, form: str) -> bool:
    if form == "text":
        return isinstance(value, Scalar)
    if form == "list":
        return isinstance(value, Items)
    if form == "names":
        return isinstance(value, Scalar) or (isinstance(value, Items) and all(isinstance(v, Scalar) for v in value))
    return isinstance(value, Mapping)


def _entry(section: str, entry: Entry) -> Iterator[Problem]:
    """One entry of a section of entries."""
    name, value, named = entry.name, entry.value, SECTIONS[section].named
    if not NAME.match(name):
        if not entry.key.is_broken:
            message = f"`{name}` is no name for a {named}"
            yield Problem(message, entry.key.span, ("a name is a letter, then letters, digits and `_`",))
        return
    if section in NAMESPACE and name in RESERVED:
        yield Problem(f"`{name}` is reserved", entry.key.span, (f"call the {named} otherwise",))
    if isinstance(value, Scalar):
        yield from _scalar_entry(section, entry, value)
    elif section == "graph":
        yield Problem(f"graph entry `{name}` holds one expression", value.span)
    elif isinstance(value, Items) and section != "params":
        yield Problem(f"{named} `{name}` holds a mapping: `{{key: value}}`", value.span)
    else:
        yield from empty_values(value)


def _scalar_entry(section: str, entry: Entry, value: Scalar) -> Iterator[Problem]:
    named = SECTIONS[section].named
    if value.is_empty:
        yield Problem(f"{named} `{entry.name}` has no value", entry.key.span)
    elif section in ("graph", "outputs"):
        if not value.is_exact:
            hints = ("write it on one line, or as a `|` block, so that errors can point into it",)
            yield Problem("an expression over several lines has no exact places", value.span, hints)
    elif section != "params" and not value.is_broken:
        yield Problem(f"{named} `{entry.name}` holds a mapping: `{{key: value}}`", value.span)


def empty_values(value: Node) -> Iterator[Problem]:
    """Fields below `value` that are written without a value."""
    if isinstance(value, Mapping):
        for entry in value:
            if isinstance(entry.value, Scalar) and entry.value.is_empty:
                yield Problem(f"`{entry.name}` has no value", entry.key.span)
            else:
                yield from empty_values(entry.value)
    elif isinstance(value, Items):
        for item in value:
            if isinstance(item, Scalar) and item.is_empty:
                yield Problem("an item of this list is empty", item.span)
            else:
                yield from empty_values(item)
