"""What the blueprint writes of a component, loss or input, read by its kind's types."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from compose_vlp.blueprint.document import kind_of
from compose_vlp.blueprint.inputs import INPUTS, Input
from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.blueprint.typed import read_model
from compose_vlp.errors import Problem, Span, UserError, did_you_mean
from compose_vlp.graph.language.names import Declared, Names
from compose_vlp.graph.language.sizes import Sizing

NOT_LIKE = frozenset({"like", "from", "many", "table", "templates", "view", "type"})
"""Fields that an input never takes from the one that it is `like`: what it shows, not how."""


def read_settings(
    names: Names, declared: Declared, skip: Collection[str], owned: Collection[Entry] = ()
) -> Sizing | None:
    """The settings of a kind; None where a setting that it cannot do without is missing or wrong (noted).

    `owned` are fields of the component that shares everything with this one: they stand where nothing is written.
    """
    kind, mapping = declared.kind, declared.mapping
    fields = {entry.name: entry for entry in owned if entry.name in kind.settings} | {e.name: e for e in mapping}
    _unknown(names, declared, skip)
    if kind.config is None:
        return Sizing(declared, None)
    known = tuple(entry for name, entry in fields.items() if name in kind.settings and name not in skip)
    whole = Mapping(known, mapping.span)
    written, problems = read_model(whole, kind.config, names.document, declared.span)
    if written is None:
        names.problems.extend(problems)
        sound = tuple(entry for entry in known if not any(_is_in(problem, entry) for problem in problems))
        written, _ = read_model(Mapping(sound, mapping.span), kind.config, names.document, declared.span)
    if written is None:
        return None
    described = _described(names, declared, written)
    return None if described is None else Sizing(declared, written, described)


def _described(names: Names, declared: Declared, written: Any) -> dict[str, Any] | None:
    """The sizes that only the kind's library knows; None where it knows no such thing (noted)."""
    if declared.kind.describe is None:
        return {}
    try:
        return dict(declared.kind.describe(written))
    except UserError as error:
        for problem in error.problems:
            message = f"`{declared.name}`: {problem.message}"
            names.problems.add(message, problem.span or declared.span, *problem.hints, related=problem.related)
        return None


def _unknown(names: Names, declared: Declared, skip: Collection[str]) -> None:
    """Note keys that are neither settings nor whatever else the section allows."""
    kind = declared.kind
    for entry in declared.mapping:
        if entry.name in skip or entry.name in kind.settings or entry.key.is_broken:
            continue
        known = [*kind.settings, *kind.ports] if kind.category == "loss" else list(kind.settings)
        what = "port or setting" if kind.category == "loss" else "setting"
        lists = [f"settings: {', '.join(kind.settings) or 'none'}"]
        if kind.category == "loss":
            lists.insert(0, f"ports: {', '.join(kind.ports)}")
        near = did_you_mean(entry.name, [*known, *skip])
        names.problems.add(f"`{kind.name}` has no {what} `{entry.name}`", entry.key.span, *near, *lists)


def _is_in(problem: Problem, entry: Entry) -> bool:
    return any(_covers(place, problem.span) for place in (entry.key.span, entry.value.span)) if problem.span else False


def _covers(place: Span, span: Span) -> bool:
    return (
        place.file == span.file
        and (place.line, place.column) <= (span.line, span.column)
        and (span.line > place.line or span.column < place.end_column)
    )


def read_input(names: Names, entry: Entry) -> Input | None:
    """An input, with what it takes from the one that it is `like`; None where it is not sound (noted)."""
    mapping = entry.value
    if not isinstance(mapping, Mapping):
        return None
    fields = {inner.name: inner for inner in mapping}
    like = _like(names, entry)
    if like is not None and isinstance(like.value, Mapping):
        own_type, other_type = kind_of(entry), kind_of(like)
        if own_type and other_type and own_type.text != other_type.text:
            message = (
                f"`{entry.name}` is of type {own_type.text}, and `{like.name}`, which it is like, of {other_type.text}"
            )
            names.problems.add(message, fields["like"].value.span)
            return None
        inherited = {e.name: e for e in _with_like(names, like) if e.name not in NOT_LIKE}
        fields = inherited | fields
    kind = fields.get("type")
    if kind is None or not isinstance(kind.value, Scalar):
        names.problems.add(
            f"input `{entry.name}` does not say its `type`", entry.key.span, f"types: {', '.join(INPUTS)}"
        )
        return None
    if kind.value.text not in INPUTS:
        near = did_you_mean(kind.value.text, INPUTS) or (f"types: {', '.join(INPUTS)}",)
        names.problems.add(f"no input is of type `{kind.value.text}`", kind.value.span, *near)
        return None
    model = INPUTS[kind.value.text]
    whole = Mapping(tuple(fields.values()), mapping.span)
    spec, problems = read_model(whole, model, names.document, entry.key.span)
    names.problems.extend(problems)
    return spec  # type: ignore[return-value]


def _like(names: Names, entry: Entry) -> Entry | None:
    assert isinstance(entry.value, Mapping)
    like = entry.value.get("like")
    return names.document.inputs.entry(like.text) if isinstance(like, Scalar) else None


def _with_like(names: Names, entry: Entry, depth: int = 0) -> list[Entry]:
    """The fields of an input, those included that it takes itself from another one."""
    if not isinstance(entry.value, Mapping) or depth > len(names.document.inputs):
        return []
    like = _like(names, entry)
    further = {} if like is None else {e.name: e for e in _with_like(names, like, depth + 1) if e.name not in NOT_LIKE}
    return list((further | {e.name: e for e in entry.value}).values())
