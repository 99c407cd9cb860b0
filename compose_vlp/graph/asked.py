"""What outputs are asked with: fields of records, each of which may feed several inputs, and tables."""

from __future__ import annotations

from compose_vlp.blueprint.inputs import Input, TextInput
from compose_vlp.graph.graph import CheckedBlueprint


def inputs_asked(blueprint: CheckedBlueprint, output: str) -> tuple[str, ...]:
    """The inputs that records fill for an output, in the order in which it reads them: what it writes or judges is
    none, nor are tables."""
    over = blueprint.outputs[output].over
    return tuple(name for name in _read(blueprint, output) if name != over and not is_table(blueprint.inputs[name]))


def fields_asked(blueprint: CheckedBlueprint, output: str) -> dict[str, tuple[str, ...]]:
    """The fields of a record that an output is asked with, and the inputs that each of them fills (one picture in two
    sizes)."""
    fields: dict[str, tuple[str, ...]] = {}
    for name in inputs_asked(blueprint, output):
        field = field_of(blueprint, name)
        fields[field] = (*fields.get(field, ()), name)
    return fields


def tables_asked(blueprint: CheckedBlueprint, output: str) -> tuple[str, ...]:
    """The inputs with a table that an output reads, that among whose texts it chooses too."""
    among = blueprint.outputs[output].among
    names = (*_read(blueprint, output), *([among] if among is not None else []))
    return tuple(dict.fromkeys(name for name in names if is_table(blueprint.inputs[name])))


def first_asked(blueprint: CheckedBlueprint) -> str:
    """The output that is meant where none is named: the first that writes a text, that chooses one, or at all."""
    outputs = blueprint.outputs.items()
    of_forms = (name for form in ("generate", "rank") for name, output in outputs if output.form == form)
    return next(of_forms, None) or next(iter(blueprint.outputs))


def field_of(blueprint: CheckedBlueprint, name: str) -> str:
    """The field of a record that fills an input."""
    return blueprint.inputs[name].field or name


def type_of_field(blueprint: CheckedBlueprint, inputs: tuple[str, ...]) -> str:
    """The type of a field that fills these inputs; a picture may also be what an id is made of."""
    types = {blueprint.inputs[name].type: None for name in inputs}
    return next((type_name for type_name in ("image", "text") if type_name in types), next(iter(types)))


def is_table(spec: Input) -> bool:
    """Tell whether an input is a constant list, and not of records."""
    return isinstance(spec, TextInput) and spec.table is not None


def _read(blueprint: CheckedBlueprint, output: str) -> tuple[str, ...]:
    entry = blueprint.outputs[output]
    calls = blueprint.fragment(ref for ref in (entry.ref, entry.to) if ref is not None)
    return tuple(call.target for call in calls if call.role == "input")
