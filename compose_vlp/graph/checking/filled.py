"""The document with everything that nobody wrote: defaults, and sizes that follow from the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.trees import Path, find, put
from compose_vlp.errors import Span
from compose_vlp.graph.graph import CheckedBlueprint, ResolvedComponent

DEFAULT: Final = "default"
INFERRED: Final = "inferred"
NOWHERE: Final = (DEFAULT, INFERRED)
"""What stands for a file in the places of values that no file has."""


def filled(checked: CheckedBlueprint) -> Document:
    """The checked document, with a value for every field of inputs, components, losses, teachers and stages.

    The place of such a value is `default` or `inferred`; one taken over by `like` counts as a default. A size that a
    stage's `set` makes another is left out: written down, it would be asserted of this stage too. So is a default that
    nothing reads here, and that would be a mistake if somebody wrote it.
    """
    root = checked.document.root
    for path, settings, inferred in _settings(checked):
        for name, value in settings:
            if value is not None and find(root, (*path, name)) is None and find(root, path) is not None:
                origin = INFERRED if name in inferred else DEFAULT
                root = put(root, (*path, name), _entry(name, value, origin))
    document = checked.document
    return Document(root, document.files, document.sources, document.removed, document.missing)


def _settings(checked: CheckedBlueprint) -> Iterator[tuple[Path, list[tuple[str, Any]], frozenset[str]]]:
    """Give the place of the settings, the settings as they are read, and which of them are inferred."""
    for name, given in checked.inputs.items():
        yield ("inputs", name), _fields(given), frozenset()
    for name, component in checked.components.items():
        fields = _fields(component.config)
        writable = [item for item in fields if not _moves(checked, name, *item) and not _is_refused(component, *item)]
        yield ("components", name), writable, frozenset(component.inferred)
    for name, loss in checked.losses.items():
        yield ("losses", name), _fields(loss.config), frozenset()
    for name, teacher in checked.teachers.items():
        yield ("teachers", name), _fields(teacher), frozenset()
    for name, stage in checked.stages.items():
        yield ("stages", name), _fields(stage), frozenset()
    if checked.optimizer is not None:
        yield ("optimizer",), _fields(checked.optimizer), frozenset()


def _moves(checked: CheckedBlueprint, component: str, field: str, value: Any) -> bool:
    """Tell whether a stage infers another value for a component's field."""
    others = (variant.components[component] for variant in checked.variants.values())
    return any(field in other.inferred and dict(_fields(other.config))[field] != value for other in others)


def _is_refused(component: ResolvedComponent, field: str, value: Any) -> bool:
    """Tell whether a component's kind refuses a setting because it is written."""
    check, config = component.kind.check, component.config
    if check is None or config is None:
        return False
    return any(field in clash.settings for clash in check(config.model_copy(update={field: value})))


def _fields(model: BaseModel | None) -> list[tuple[str, Any]]:
    """The fields under the names that a blueprint writes; what a slot holds stands beside its `use`."""
    if model is None:
        return []
    if hasattr(model, "settings_of"):  # `blueprint.typed.Chosen`
        chosen: Any = model
        return [("use", chosen.use), *_fields(chosen.settings)]
    fields = type(model).model_fields
    return [(info.alias or name, getattr(model, name)) for name, info in fields.items()]


def _entry(name: str, value: Any, origin: str) -> Entry:
    span = Span(origin, 0, 1, 2)
    return Entry(Scalar(name, span), _node(value, span))


def _node(value: Any, span: Span) -> Node:
    if isinstance(value, BaseModel):
        fields = [(name, item) for name, item in _fields(value) if item is not None]
        return Mapping(tuple(Entry(Scalar(name, span), _node(item, span)) for name, item in fields), span)
    if isinstance(value, dict):
        return Mapping(tuple(Entry(Scalar(str(key), span), _node(item, span)) for key, item in value.items()), span)
    if isinstance(value, list | tuple):
        return Items(tuple(_node(item, span) for item in value), span)
    if isinstance(value, bool):
        return Scalar("true" if value else "false", span)
    return Scalar(str(value), span, style="plain" if not isinstance(value, str) or value else "single")
