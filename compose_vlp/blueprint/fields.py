"""Which fields an entry may have: from its section's schema, and from its kind's settings and ports."""

from __future__ import annotations

from compose_vlp.blueprint.document import kind_of
from compose_vlp.blueprint.nodes import Entry, Mapping
from compose_vlp.blueprint.state import FieldsOf

COMMON = {
    "components": frozenset({"use", "share"}),
    "losses": frozenset({"use", "weight"}),
    "adapters": frozenset({"use"}),
    "data": frozenset({"use"}),
}
"""Fields that an entry of a section has whatever its kind."""


def known_fields(section: str, entry: Entry, fields_of: FieldsOf | None) -> frozenset[str] | None:
    """All fields that the entry may have, written or not; None where its kind is unknown, and so are its fields."""
    if section in COMMON:
        kind = kind_of(entry)
        if section == "data" and isinstance(entry.value, Mapping) and "mix" in entry.value:
            return schema_fields(section, entry)
        of_kind = fields_of(kind.text) if kind and fields_of else None
        if of_kind is None:
            return None
        return of_kind | COMMON[section] | (schema_fields(section, entry) or frozenset())
    return schema_fields(section, entry)


def schema_fields(section: str, entry: Entry | None) -> frozenset[str] | None:
    """The fields in the schema of a section's entries, or of a section that is one mapping."""
    from compose_vlp.blueprint import sections

    model = sections.model_of(section, entry)
    return sections.field_names(model) if model else None
