"""The section `adapters`: kinds that change linear maps, with their settings and the patterns of these maps."""

from __future__ import annotations

from compose_vlp.blueprint.document import as_items
from compose_vlp.blueprint.nodes import Mapping, Scalar
from compose_vlp.blueprint.sections import Adapter, field_names
from compose_vlp.blueprint.typed import read_model
from compose_vlp.errors import Span
from compose_vlp.graph.graph import AdapterEntry
from compose_vlp.graph.language.names import Names
from compose_vlp.graph.language.settings import read_settings

COMMON = field_names(Adapter)
"""What an adapter says whatever its kind."""


def read_adapters(names: Names) -> dict[str, AdapterEntry]:
    """The adapters by name; what is wrong with one is noted, and it is left out."""
    read = {}
    for entry in names.document.adapters:
        declared = names.declared("adapters", entry.name, ("adapter",))
        if declared is None:
            continue
        others = frozenset(declared.mapping.names) - COMMON
        common, problems = read_model(declared.mapping, Adapter, names.document, declared.span, others)
        names.problems.extend(problems)
        sizing = read_settings(names, declared, {"use", *COMMON})
        if common is not None and sizing is not None:
            read[entry.name] = AdapterEntry(
                entry.name,
                declared.kind,
                sizing.written,
                common.match,
                common.but,
                declared.span,
                _places(declared.mapping),
                {field.name: field.value.span for field in declared.mapping},
            )
    return read


def _places(fields: Mapping) -> dict[str, Span]:
    """Give the place of each pattern."""
    patterns = [item for key in ("match", "except") for item in as_items(fields.get(key))]
    return {item.text: item.span for item in patterns if isinstance(item, Scalar)}
