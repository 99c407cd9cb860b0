"""One file laid over what was merged before it: entry by entry, field by field, later wins."""

from __future__ import annotations

from compose_vlp.blueprint.document import SECTIONS
from compose_vlp.blueprint.nodes import Entry, Mapping, Node, Scalar

_NOT_INHERITED = ("name", "title", "extends", "drop")
_REPLACED_WHOLE = ("params", "graph")
"""Sections whose entries are replaced, not merged field by field."""

OUTPUT_FORMS = ("generate", "rank", "relevance")
"""The first key of an output that is a mapping."""


def merge(base: Mapping, own: Mapping) -> Mapping:
    """The root of `own`'s file laid over `base`; `extends` and `drop` are done, `name` and `title` are each file's."""
    merged = {entry.name: entry for entry in base if entry.name not in _NOT_INHERITED}
    for section in own:
        if section.name not in ("extends", "drop"):
            merged[section.name] = _section(merged.get(section.name), section)
    return Mapping(tuple(merged.values()), own.span)


def _section(base: Entry | None, own: Entry) -> Entry:
    form = SECTIONS[own.name].form if own.name in SECTIONS else ""
    if base is None or not isinstance(base.value, Mapping) or not isinstance(own.value, Mapping):
        return Entry(own.key, own.value, base)
    if form == "mapping":
        return merge_entry((own.name,), base, own)
    if form != "entries":
        return Entry(own.key, own.value, base)
    entries = {} if own.name == "stages" else {entry.name: entry for entry in base.value}
    for entry in own.value:
        before = base.value.entry(entry.name)
        whole = Entry(entry.key, entry.value, before)
        entries[entry.name] = whole if own.name == "stages" else merge_entry((own.name, entry.name), before, entry)
    return Entry(own.key, Mapping(tuple(entries.values()), own.value.span), base)


def merge_entry(path: tuple[str, ...], base: Entry | None, own: Entry) -> Entry:
    """The entry at `path` laid over the one before: merged field by field, or replaced where it is of another form."""
    if (
        base is None
        or path[0] in _REPLACED_WHOLE
        or not isinstance(base.value, Mapping)
        or not isinstance(own.value, Mapping)
        or not _same_form(path[0], base.value, own.value)
    ):
        return Entry(own.key, own.value, base)
    fields = {entry.name: entry for entry in base.value}
    for entry in own.value:
        fields[entry.name] = Entry(entry.key, entry.value, fields.get(entry.name))
    return Entry(own.key, Mapping(tuple(fields.values()), own.value.span), base)


def _same_form(section: str, base: Mapping, own: Mapping) -> bool:
    """Tell whether the later mapping is about the same thing: one `use` or `type`, one form of output or of data."""
    if section == "outputs":
        forms = [form for form in OUTPUT_FORMS if form in own]
        return not forms or all(form in base for form in forms)
    if section == "data" and ("mix" in base) != ("mix" in own) and ("mix" in own or "use" in own):
        return False
    return all(_word(own.get(key)) in ("", _word(base.get(key))) for key in ("use", "type"))


def _word(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
