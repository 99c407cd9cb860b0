"""`share`: my part is another component's part of the same name; `"*"` is all of them, settings included."""

from __future__ import annotations

from collections.abc import Mapping as Dict

from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.errors import did_you_mean
from compose_vlp.graph.language.names import Declared, Names

OWN = "own"
EVERYTHING = "*"


def read_share(names: Names, declared: Declared) -> Dict[str, str]:
    """Part -> `owner`, `owner.part` or `own`, as the blueprint writes it; unsound lines are noted and left out."""
    entry = declared.mapping.entry("share")
    if entry is None:
        return {}
    if not isinstance(entry.value, Mapping):
        hint = "`share: {part: owner}` or `share: {part: owner.part}`"
        names.problems.add("`share` is a mapping of parts to their owners", entry.value.span, hint)
        return {}
    return {line.name: line.value.text for line in entry.value if _is_sound(names, declared, line)}  # type: ignore[union-attr]


def _is_sound(names: Names, declared: Declared, line: Entry) -> bool:
    before = len(names.problems)
    parts = declared.kind.parts
    known = f"`{declared.kind.name}` shares {', '.join(parts) or 'nothing'}"
    if line.name != EVERYTHING and line.name not in parts:
        near = did_you_mean(line.name, parts)
        names.problems.add(f"`{declared.kind.name}` has no part `{line.name}` to share", line.key.span, *near, known)
    if not isinstance(line.value, Scalar):
        names.problems.add("an owner is one name: `owner` or `owner.part`", line.value.span)
        return False
    if line.value.text == OWN:
        if line.name == EVERYTHING:
            names.problems.add("everything is its own without `share`", line.value.span)
        return len(names.problems) == before
    _owner(names, declared, line, line.value)
    return len(names.problems) == before


def _owner(names: Names, declared: Declared, line: Entry, value: Scalar) -> None:
    name, _, part = value.text.partition(".")
    span = value.place(0, len(name))
    if names.section(name) != "components":
        if names.section(name) is None:
            names.unknown(name, span, names.problems)
        else:
            names.problems.add(f"`{name}` is no component", span)
        return
    owner = names.component(name)
    if owner is None:
        return
    if name == declared.name:
        names.problems.add(f"`{name}` cannot share from itself", span)
    elif line.name == EVERYTHING and part:
        names.problems.add("`*` shares with a component, not with a part", value.place(len(name), len(value.text)))
    elif line.name != EVERYTHING and (part or line.name) not in owner.kind.parts:
        place = value.place(len(name) + 1, len(value.text)) if part else span
        near = did_you_mean(part or line.name, owner.kind.parts)
        known = f"`{owner.kind.name}` has {', '.join(owner.kind.parts) or 'none'}"
        names.problems.add(f"`{name}` has no part `{part or line.name}`", place, *near, known)


def owner_of_all(share: Dict[str, str]) -> str | None:
    """The component with which everything is shared."""
    return share.get(EVERYTHING)


def sharing_order(names: Names, shares: Dict[str, Dict[str, str]]) -> list[str]:
    """Components, owners before those that share from them; a circle is noted and cut."""
    ordered: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in path:
            way = " -> ".join([*path[path.index(name) :], name])
            names.problems.add(f"components share in a circle: {way}", names.entry(path[-1]).key.span)
            return
        path.append(name)
        for source in shares.get(name, {}).values():
            if source != OWN:
                visit(source.partition(".")[0])
        path.pop()
        ordered.append(name)

    for name in shares:
        visit(name)
    return ordered
