"""The section `data`: kinds of sources with their settings, and mixtures of other entries. Nothing is opened."""

from __future__ import annotations

from compose_vlp.blueprint.nodes import Entry, Mapping
from compose_vlp.blueprint.sections import DataSource, field_names
from compose_vlp.blueprint.typed import read_model
from compose_vlp.graph.language.names import Names

COMMON = field_names(DataSource)
"""What an entry may say whatever its kind."""


def check_data(names: Names) -> None:
    """Note entries that no source could be opened from, and mixtures that are parts of themselves."""
    for entry in names.document.data:
        if isinstance(entry.value, Mapping):
            _entry(names, entry, entry.value)
    _circles(names)


def _entry(names: Names, entry: Entry, fields: Mapping) -> None:
    document, problems = names.document, names.problems
    _, mistakes = read_model(fields, DataSource, document, entry.key.span, frozenset(fields.names) - COMMON)
    problems.extend(mistakes)
    mix = fields.entry("mix")
    if mix is None:
        source = names.declared("data", entry.name, ("source",))
        if source is not None and source.kind.config is not None:
            problems.extend(read_model(fields, source.kind.config, document, entry.key.span, COMMON)[1])
        return
    if "use" in fields:
        problems.add(f"data `{entry.name}` has `use` and `mix`: it is one source or several", mix.key.span)
        return
    if isinstance(mix.value, Mapping) and not mix.value.entries:
        problems.add(f"the mixture `{entry.name}` has no parts", mix.value.span, "`mix: {pairs: 2, others: 1}`")
    for other in fields:
        if other.name not in COMMON and not other.key.is_broken:
            hint = "each part of a mixture has its own settings, in its own entry"
            problems.add(f"a mixture has no setting `{other.name}`", other.key.span, hint)


def _circles(names: Names) -> None:
    """Note each mixture that is a part of itself, at the part that closes the circle."""
    data = names.document.data
    whole: set[str] = set()

    def visit(name: str, within: tuple[str, ...]) -> None:
        entry = data.entry(name)
        mix = entry.value.get("mix") if entry is not None and isinstance(entry.value, Mapping) else None
        for part in mix if isinstance(mix, Mapping) and name not in whole else ():
            if part.name in (*within, name):
                way = (*within, name)
                circle = " > ".join((*way[way.index(part.name) :], part.name))
                names.problems.add(f"data `{part.name}` is a part of itself: {circle}", part.key.span)
            else:
                visit(part.name, (*within, name))
        whole.add(name)

    for name in data.names:
        visit(name, ())
