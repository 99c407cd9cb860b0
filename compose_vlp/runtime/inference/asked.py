"""The arguments of a call of an output, put in order: fields of records, texts in place of tables, settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose_vlp.blueprint.inputs import LabelInput, TextInput
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.asked import field_of, fields_asked, tables_asked
from compose_vlp.graph.graph import CheckedBlueprint

Texts = Sequence[str]


@dataclass(frozen=True)
class Asked:
    """What a call of an output gave.

    `fields` are lists of one length, by field of the record; `tables` texts that stand in for a table's, by input;
    `settings` all that is neither; `single` says that the fields' values were given as they are, and not in lists.
    """

    fields: Mapping[str, list[Any]]
    tables: Mapping[str, Texts]
    settings: Mapping[str, Any]
    single: bool


def read_arguments(blueprint: CheckedBlueprint, output: str, values: Sequence[Any], named: Mapping[str, Any]) -> Asked:
    """Read a call's arguments: `values` in the order of the fields that the output reads, `named` by field or table.

    Raises:
        UserError: too many values, one given twice, lists of different lengths, or a name that nothing reads.
    """
    reads = fields_asked(blueprint, output)
    if len(values) > len(reads):
        what = f"reads {', '.join(reads)}" if reads else "reads nothing of a record"
        raise UserError(f"output {output!r} {what}; {len(values)} values were given")
    placed = dict(zip(reads, values, strict=False))
    twice = next((name for name in placed if name in named), None)
    if twice is not None:
        raise UserError(f"output {output!r}: {twice} is given twice, by its place and by its name")
    given = {**placed, **{name: value for name, value in named.items() if name in reads}}
    tables = {name: _texts(name, named[name]) for name in tables_asked(blueprint, output) if name in named}
    settings = {name: value for name, value in named.items() if name not in reads and name not in tables}
    _check_settings(blueprint, output, settings)
    lists = {name: _several(value, _is_many(blueprint, reads[name])) for name, value in given.items()}
    single = bool(given) and all(several is None for several in lists.values())
    fields = {name: [given[name]] if several is None else several for name, several in lists.items()}
    if len({len(column) for column in fields.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in fields.items())
        raise UserError(f"lists of different lengths: {lengths}")
    return Asked(fields, tables, settings, single)


def _check_settings(blueprint: CheckedBlueprint, output: str, settings: Mapping[str, Any]) -> None:
    """Names of inputs and fields are no settings, and only texts that are written have any."""
    inputs = blueprint.inputs
    known = {*inputs, *(field_of(blueprint, name) for name in inputs)}
    for name in settings:
        if name in known or blueprint.outputs[output].form != "generate":
            raise not_read(blueprint, output, name)


def not_read(blueprint: CheckedBlueprint, output: str, name: str) -> UserError:
    """Report the mistake of giving an output what it does not read."""
    reads, tables = fields_asked(blueprint, output), tables_asked(blueprint, output)
    all_read = (*reads, *tables)
    if any(name in inputs for inputs in reads.values()):
        hints: tuple[str, ...] = (f"input `{name}` is made of the record's field: give `{field_of(blueprint, name)}`",)
    else:
        hints = tuple(did_you_mean(name, all_read)) or (f"it reads {', '.join(all_read) or 'nothing of a record'}",)
    return UserError(f"output {output!r} does not read {name!r}", hints=hints)


def _is_many(blueprint: CheckedBlueprint, inputs: Iterable[str]) -> bool:
    specs = (blueprint.inputs[name] for name in inputs)
    return any(isinstance(spec, TextInput | LabelInput) and spec.many for spec in specs)


def _several(value: Any, many: bool) -> list[Any] | None:
    """List the values of several records; None for one record's value (of `many` texts, a list of them is one)."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return list(value) if value.ndim in (1, 4) else None
    listed = isinstance(value, list | tuple | Iterator) or hasattr(value, "to_list")  # a column of pandas
    if not listed:
        return None
    rows = list(value)
    return None if many and rows and all(isinstance(row, str) for row in rows) else rows


def _texts(name: str, value: Any) -> Texts:
    texts = value if isinstance(value, list | tuple) else None
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{name} is a table: a list of texts can stand in its place, not {value!r}")
    return texts
