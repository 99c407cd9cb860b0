"""The sections beside the graph: params, teachers, stages, start, optimizer, precision, data."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any

from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.blueprint.sections import ONE_VALUE, Optimizer, Stage, Start, Teacher, Tracking
from compose_vlp.blueprint.typed import NOTHING, read_model, read_typed
from compose_vlp.graph.language.names import Names


@dataclass
class Sections:
    """The entries read by the schemas of their sections; what is unsound is noted and left out."""

    params: Dict[str, Any] = field(default_factory=dict)
    teachers: Dict[str, Teacher] = field(default_factory=dict)
    stages: Dict[str, Stage] = field(default_factory=dict)
    start: tuple[Start, ...] = ()
    optimizer: Optimizer | None = None
    settings: Dict[str, Any] = field(default_factory=dict)  # those of one value, and tracking


def read(names: Names) -> Sections:
    """All these sections of a document."""
    document = names.document
    return Sections(
        params={entry.name: value for entry in document.params if (value := _param(names, entry)) is not NOTHING},
        teachers={
            entry.name: declared
            for entry in document.teachers
            if (declared := _model(names, entry, Teacher)) is not None
        },
        stages={
            entry.name: declared for entry in document.stages if (declared := _model(names, entry, Stage)) is not None
        },
        start=_start(names),
        optimizer=_optimizer(names),
        settings=_settings(names),
    )


def _param(names: Names, entry: Entry) -> Any:
    for node in () if isinstance(entry.value, Items) else _scalars(entry.value):
        known = node.text.startswith("$") and names.document.params.entry(node.text[1:]) is not None
        if known:  # an unknown one is noted where the files were merged
            message = f"`{entry.name}` is a param, which holds a value of its own and reads no other"
            names.problems.add(message, node.span, "write the number, or read that param where this one is read")
            return NOTHING
    if not isinstance(entry.value, Mapping):
        return guess(entry.value)
    value, problems = read_typed(entry.value, Schedule, names.document, entry.name)
    names.problems.extend(problems)
    return value


def _scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Items | Mapping):
        for inner in node:
            yield from _scalars(inner.value if isinstance(inner, Entry) else inner)


def _model(names: Names, entry: Entry, model: type[Any]) -> Any:
    if not isinstance(entry.value, Mapping):
        return None
    section, problems = read_model(entry.value, model, names.document, entry.key.span)
    names.problems.extend(problems)
    return section


def _start(names: Names) -> tuple[Start, ...]:
    node = names.document.root.get("start")
    if not isinstance(node, Items):
        return ()
    items = []
    for item in node:
        if not isinstance(item, Mapping):
            names.problems.add(
                "an item of `start` is a mapping", item.span, "`{from: weights.safetensors, to: vision}`"
            )
            continue
        parsed, problems = read_model(item, Start, names.document, item.span)
        names.problems.extend(problems)
        if parsed is not None:
            items.append(parsed)
    return tuple(items)


def _optimizer(names: Names) -> Optimizer | None:
    entry = names.document.root.entry("optimizer")
    optimizer = _model(names, entry, Optimizer) if entry is not None else None
    assert optimizer is None or isinstance(optimizer, Optimizer)
    return optimizer


def _settings(names: Names) -> dict[str, Any]:
    settings = {}
    for name in ("length", "batch", "precision", "distribute", "recompute", "train", "freeze"):
        node = names.document.root.get(name)
        if node is None or (isinstance(node, Scalar) and node.is_broken):
            continue
        value, problems = read_typed(node, ONE_VALUE[name], names.document, name)
        names.problems.extend(problems)
        if value is not NOTHING:
            settings[name] = value
    entry = names.document.root.entry("tracking")
    if entry is not None and (tracking := _model(names, entry, Tracking)) is not None:
        settings["tracking"] = tracking
    return settings
