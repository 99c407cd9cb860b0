"""Settings that do not go together, once all sizes are known."""

from __future__ import annotations

from collections.abc import Container, Iterable

from compose_vlp.blueprint.document import Document
from compose_vlp.errors import Span
from compose_vlp.graph.kinds import Clash
from compose_vlp.graph.language.names import Names
from compose_vlp.graph.language.sizes import Sizing


def check_settings(names: Names, sizings: Iterable[Sizing], owners: Container[str]) -> None:
    """Note sizes that follow from nothing, and what the kinds' own checks find.

    `owners` are the components from which others share: their sizes are needed though nothing may call them.
    """
    for sizing in sizings:
        if sizing.written is None or sizing.declared.name in names.missing:
            continue  # settings that were not read may be what it lacks
        component, unknown = sizing.declared.name, sizing.unknown()
        for name in unknown if sizing.called or component in owners else ():
            hint = f"write it: `components.{component}.{name}`"
            names.problems.add(f"`{name}` of `{component}` follows from nothing here", sizing.declared.span, hint)
        if not unknown and sizing.declared.kind.check is not None:
            for clash in sizing.declared.kind.check(sizing.config):
                _explain(names, sizing, clash)


def _explain(names: Names, sizing: Sizing, clash: Clash) -> None:
    """Point at the later of the values, and say where each comes from."""
    places = {name: _origin(names.document, sizing, name) for name in clash.settings}
    written = {name: place for name, place in places.items() if place is not None}
    span = max(written.values(), key=lambda place: _order(names.document, place)) if written else sizing.declared.span
    related = []
    for name in clash.settings:
        value, place = getattr(sizing.config, name), places[name]
        if place is None:
            related.append((f"{name} {value} is the default of {sizing.declared.kind.name}", sizing.declared.span))
        elif place != span:
            how = "is written here" if sizing.is_written(name) else "comes from here"
            related.append((f"{name} {value} {how}", place))
    names.problems.add(f"`{sizing.declared.name}`: {clash.message}", span, *clash.hints, related=related)


_FIELDS = {"size": "size", "length": "max_length"}
"""Sizes of inputs, and the fields that say them."""


def _origin(document: Document, sizing: Sizing, name: str) -> Span | None:
    """Find where a setting's value was written: at the input whose size it is, if any; None for a default."""
    fact = sizing.source(name)
    if fact is None:
        return None
    entry = document.at("inputs", fact.root, _FIELDS.get(fact.measure, "")) if fact.root else None
    return entry.value.span if entry is not None else fact.span


def _order(document: Document, span: Span) -> tuple[int, int, int]:
    """Later files win, and the command line over all."""
    files = list(document.files)
    return (files.index(span.file) if span.file in files else len(files), span.line, span.column)
