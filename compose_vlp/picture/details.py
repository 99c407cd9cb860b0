"""What the page shows of a box that is chosen: settings, shapes, and its place in the blueprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Call
from compose_vlp.graph.types import RecordType, SequenceType, ValueType
from compose_vlp.graph.words import type_words

Rows = tuple[tuple[str, str], ...]
Details = tuple[tuple[str, Rows], ...]


def details_of(checked: CheckedBlueprint, call: Call, parameters: int, adapted: Mapping[str, int]) -> Details:
    """Headings with their lines, of a call; `adapted` says how many maps of its component which adapter is for."""
    sections = {
        "Positions": tuple(_value(call.type)),
        "Settings": tuple(_settings(checked, call)),
        "Adapters": tuple(_adapters(checked, adapted)) if call.role == "component" else (),
        "Weights": (("parameters", f"{parameters:,}"),) if parameters else (),
        "In the blueprint": tuple(_place(call)),
    }
    return tuple((heading, rows) for heading, rows in sections.items() if rows)


def _value(value: ValueType) -> Iterator[tuple[str, str]]:
    """Describe what stands at which positions, and which words of which text each can see."""
    if isinstance(value, RecordType):
        for name, member in value.members().items():
            yield f".{name}", type_words(member)
    if isinstance(value, SequenceType):
        for part in value.parts:
            cls = "" if part.cls == "none" else f", CLS {part.cls}"
            yield f".{part.name}", f"{part.length or '?'} positions{cls}"
    for text, flow in value.reads.items():
        yield f"words of {text}", {"EACH": "its own", "PAST": "its own and earlier", "ALL": "all"}[flow.name]


def _settings(checked: CheckedBlueprint, call: Call) -> Iterator[tuple[str, str]]:
    inferred: frozenset[str] = frozenset()
    if call.role == "component":
        component = checked.components[call.target]
        config, inferred = component.config, frozenset(component.inferred)
        yield from (("share " + part, owner) for part, owner in component.share.items())
    elif call.role == "input":
        config = checked.inputs.get(call.target)
    else:
        config = next((loss.config for loss in checked.losses.values() if loss.call == call.id), None)
    for name in type(config).model_fields if config is not None else ():
        value = getattr(config, name)
        if value is not None:
            yield name, f"{_written(value)}{' (inferred)' if name in inferred else ''}"


def _adapters(checked: CheckedBlueprint, adapted: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for name, maps in adapted.items():
        adapter = checked.adapters[name]
        settings = ((key, value) for key, value in adapter.config if value is not None)
        written = ", ".join(f"{key} {_written(value)}" for key, value in settings)
        yield name, f"{adapter.kind.name} on {maps} linear maps" + (f": {written}" if written else "")


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return str(value)


def _place(call: Call) -> Iterator[tuple[str, str]]:
    if call.span is not None:
        yield "at", str(call.span)
    for step in call.chain:
        yield "through", step
