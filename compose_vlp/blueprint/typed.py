"""Nodes to typed values: text is read by the field's annotation, pydantic checks bounds, problems keep their place."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Collection
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from compose_vlp.blueprint import scalars
from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.errors import Problem, Span, did_you_mean, nearest

Model = TypeVar("Model", bound=BaseModel)
NOTHING: typing.Final = object()
"""What a value that cannot be read becomes; a problem says why."""

_TEXT_READERS: dict[Any, Any] = {
    bool: scalars.read_bool,
    int: scalars.read_int,
    float: scalars.read_float,
    scalars.Quantity: scalars.read_quantity,
    str: str,
}
_LISTS = (list, tuple, set, frozenset)


def read_model(
    mapping: Mapping, model: type[Model], document: Document, where: Span, skip: Collection[str] = ()
) -> tuple[Model | None, list[Problem]]:
    """The fields of an entry as `model`, or None with the problems.

    `where` is the place that a missing field is reported at; keys in `skip` (`use`, ports) are someone else's.
    """
    reader = _Reader(document)
    kept = Mapping(tuple(entry for entry in mapping if entry.name not in skip), mapping.span)
    value = reader.model(kept, model, where)
    return (None, reader.problems) if value is NOTHING else (value, reader.problems)


def read_typed(node: Node, annotation: Any, document: Document, name: str = "the value") -> tuple[Any, list[Problem]]:
    """One value by an annotation such as `float | Schedule`; `NOTHING` with the problems where it cannot be read."""
    reader = _Reader(document)
    value = reader.convert(node, annotation, name)
    if value is NOTHING:
        return NOTHING, reader.problems
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(annotation).validate_python(value), []
    except ValidationError as error:
        return NOTHING, [Problem(_message(detail, name, node), node.span) for detail in _errors(error, node)]


class Chosen(typing.Protocol):
    """A value that is a kind by name, with settings of its own: what stands in a slot of a tower."""

    @classmethod
    def names(cls, slot: str) -> list[str]:
        """The names that may be written in this slot."""

    @classmethod
    def settings_of(cls, slot: str, name: str) -> type[BaseModel] | None:
        """The model of a kind's settings; None where no kind of this slot has the name."""

    def __call__(self, *, use: str, settings: BaseModel) -> Any:
        """The value."""


@dataclass(frozen=True)
class _Slot:
    """The annotation of a field that holds a kind: which slot it is, and the kind that stands there by default."""

    slot: str
    default: str
    model: Chosen


def field_names(model: type[BaseModel]) -> dict[str, Any]:
    """The keys that a mapping of this model may have, as they are written, with their annotations."""
    return {info.alias or name: _annotation(info) for name, info in model.model_fields.items()}


def _annotation(info: FieldInfo) -> Any:
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "slot" in extra:
        return _Slot(str(extra["slot"]), str(extra["kind"]), typing.cast(Chosen, info.annotation))
    return info.annotation


@dataclass
class _Reader:
    document: Document
    problems: list[Problem] = field(default_factory=list)
    silent: bool = False
    """Whether a value was left out that someone else has reported."""
    reading: list[str] = field(default_factory=list)
    """Params whose values are being read, which these values may not read again."""

    def model(self, mapping: Mapping, model: type[Model], where: Span) -> Model | Any:
        """The mapping as an instance of the model, or `NOTHING`."""
        before = len(self.problems), self.silent
        values = self.fields(mapping, model)
        if (len(self.problems), self.silent) != before:
            if "use" in values or "use" not in mapping:  # a kind that is not there needs nothing
                self.problems += _missing(model, mapping, where)
            return NOTHING
        try:
            return model.model_validate(values)
        except ValidationError as error:
            self.problems += [_problem(detail, mapping, where, model) for detail in _errors(error, mapping)]
            return NOTHING

    def fields(self, mapping: Mapping, model: type[BaseModel]) -> dict[str, Any]:
        known = field_names(model)
        values = {}
        for entry in mapping:
            if entry.name not in known:
                self._unknown(entry, known)
                continue
            value = self.convert(entry.value, known[entry.name], entry.name)
            if value is not NOTHING:
                values[entry.name] = value
        return values

    def _unknown(self, entry: Entry, known: Collection[str]) -> None:
        if entry.key.is_broken:
            self.silent = True
            return
        hints = did_you_mean(entry.name, known) or (f"fields: {', '.join(known) or 'none'}",)
        self.problems.append(Problem(f"no field is called `{entry.name}`", entry.key.span, hints))

    def convert(self, node: Node, annotation: Any, name: str) -> Any:
        """The node as Python's own values, shaped by the annotation; `NOTHING` where it does not fit."""
        if isinstance(node, Scalar) and node.is_broken:
            self.silent = True
            return NOTHING
        if isinstance(node, Scalar) and node.text.startswith("$"):
            return self._param(node, annotation, name)
        if isinstance(annotation, _Slot):
            return self._chosen(node, annotation, name)
        choices = _alternatives(annotation)
        if isinstance(node, Scalar):
            return self._scalar(node, choices, name)
        fitting = [choice for choice in choices if _takes(choice, node)]
        if not fitting:
            return self._misfit(node, choices, name)
        if isinstance(node, Items):
            return self._items(node, fitting[0], name)
        value = self._mapping(node, fitting[0])
        return self._within(value, node, annotation, name) if isinstance(value, Schedule) else value

    def _within(self, schedule: Schedule, node: Mapping, annotation: Any, name: str) -> Any:
        """A schedule whose values are all within the bounds of the number that it stands for."""
        from pydantic import TypeAdapter

        numbers = [choice for choice in typing.get_args(annotation) if float in _alternatives(choice)]
        for shape, value in schedule.extremes if numbers else ():
            try:
                TypeAdapter(numbers[0]).validate_python(value)
            except ValidationError as error:
                wrong = str(error.errors()[0]["msg"]).replace("Input should", f"`{name}` should", 1)
                written = node.get(shape)
                self._refuse(f"{wrong}; this schedule reaches {value:g}", written.span if written else node.span)
                return NOTHING
        return schedule

    def _param(self, node: Scalar, annotation: Any, name: str) -> Any:
        entry = self.document.params.entry(node.text[1:])
        if entry is None or node.text in self.reading:  # reported where names are looked up, and where params are read
            self.silent = True
            return NOTHING
        is_schedule = isinstance(entry.value, Mapping)
        if is_schedule and not any(_takes(choice, entry.value) for choice in _alternatives(annotation)):
            message = f"`{name}` cannot follow a schedule"
            self._refuse(message, node.span, (f"`{node.text}` is one; write a constant",))
            return NOTHING
        before = len(self.problems)
        self.reading.append(node.text)
        value = self.convert(entry.value, annotation, name)
        self.reading.pop()
        self.problems[before:] = [
            Problem(p.message, p.span, p.hints, (*p.related, ("read here", node.span))) for p in self.problems[before:]
        ]
        return value

    def _scalar(self, node: Scalar, choices: list[Any], name: str) -> Any:
        if node.text == "null" and type(None) in choices:
            return None
        literals = [str(literal) for choice in choices for literal in _literals(choice)]
        for choice in choices:
            for literal in _literals(choice):
                if str(literal) == node.text or (literal is True and node.text == "true"):
                    return literal
        quoted = node.style != "plain" and str in choices
        expected = []
        for choice in [str] if quoted else [t for t in _TEXT_READERS if t in choices]:
            try:
                return _TEXT_READERS[choice](node.text)
            except scalars.ScalarError as error:
                expected.append(str(error))
        if Any in choices or object in choices:
            return guess(node)
        if literals:
            expected.append(f"expected {_listed(literals)}")
        if not expected:
            return self._misfit(node, choices, name)
        hints = did_you_mean(node.text, literals)
        params = {
            *self.document.params.names,
            *(removed.name for removed in self.document.removed if removed.section == "params"),
        }
        if node.text in params:
            hints += (f"`${node.text}` reads the param of that name",)
        self._refuse(f"`{name}` cannot be `{node.text}`: {'; or '.join(expected)}", node.span, hints)
        return NOTHING

    def _items(self, node: Items, annotation: Any, name: str) -> Any:
        of = typing.get_args(annotation)
        if typing.get_origin(annotation) is tuple and of and of[-1] is not Ellipsis:
            if len(of) != len(node):
                self._refuse(f"`{name}` is a list of {len(of)}, not of {len(node)}", node.span)
                return NOTHING
            values = [self.convert(item, annotation, name) for item, annotation in zip(node, of, strict=True)]
        else:
            each = of[0] if of else Any
            values = [self.convert(item, each, name) for item in node]
        return NOTHING if any(value is NOTHING for value in values) else values

    def _mapping(self, node: Mapping, annotation: Any) -> Any:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self.model(node, annotation, node.span)
        of = typing.get_args(annotation)
        values = {entry.name: self.convert(entry.value, of[1] if of else Any, entry.name) for entry in node}
        return NOTHING if any(value is NOTHING for value in values.values()) else values

    def _chosen(self, node: Node, slot: _Slot, name: str) -> Any:
        """The kind that a slot holds: a name alone, or a mapping of settings that may say `use`."""
        if isinstance(node, Items):
            self._refuse(f"`{name}` is the name of a kind, or a mapping of its settings, not a list", node.span)
            return NOTHING
        use = node.get("use") if isinstance(node, Mapping) else node
        if use is not None and not isinstance(use, Scalar):
            self._refuse(f"the `use` of `{name}` is one name", use.span)
            return NOTHING
        kind = slot.default if use is None else use.text
        model = slot.model.settings_of(slot.slot, kind)
        if model is None:
            known = slot.model.names(slot.slot)
            hints = did_you_mean(kind, known) or (f"there are: {', '.join(known)}",)
            self._refuse(f"no kind for `{slot.slot}` is called `{kind}`", use.span if use else node.span, hints)
            return NOTHING
        entries = tuple(entry for entry in node if entry.name != "use") if isinstance(node, Mapping) else ()
        settings = self.model(Mapping(entries, node.span), model, node.span)
        return NOTHING if settings is NOTHING else slot.model(use=kind, settings=settings)

    def _misfit(self, node: Node, choices: list[Any], name: str) -> Any:
        form = {Scalar: "one value", Items: "a list", Mapping: "a mapping"}[type(node)]
        expected = _listed(sorted({_form(choice) for choice in choices if choice is not type(None)}))
        fields = [field for choice in choices if _is_model(choice) for field in field_names(choice)]
        hints = (f"fields: {', '.join(fields)}",) if fields else ()
        self._refuse(f"`{name}` is {expected}, not {form}", node.span, hints)
        return NOTHING

    def _refuse(self, message: str, span: Span, hints: tuple[str, ...] = ()) -> None:
        self.problems.append(Problem(message, span, hints))


def _alternatives(annotation: Any) -> list[Any]:
    """List what an annotation admits, without `Annotated` and `Optional`'s wrappings."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [alternative for choice in typing.get_args(annotation) for alternative in _alternatives(choice)]
    return [annotation]


def _literals(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def _takes(annotation: Any, node: Node) -> bool:
    if annotation in (Any, object):
        return True
    origin = typing.get_origin(annotation) or annotation
    if isinstance(node, Items):
        return origin in _LISTS
    return isinstance(node, Mapping) and (
        origin is dict or (isinstance(origin, type) and issubclass(origin, BaseModel))
    )


def _form(annotation: Any) -> str:
    origin = typing.get_origin(annotation) or annotation
    if origin in _LISTS:
        return "a list"
    return "a mapping" if origin is dict or _is_model(origin) else "one value"


def _is_model(annotation: Any) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _listed(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _missing(model: type[BaseModel], mapping: Mapping, where: Span) -> list[Problem]:
    """The required fields that are not written, for an entry whose other mistakes keep pydantic from looking.

    One that stands there misspelt is not missing.
    """
    required = {info.alias or name: info for name, info in model.model_fields.items() if info.is_required()}
    unknown = [entry.name for entry in mapping if entry.name not in field_names(model)]
    return [
        _missing_problem(name, info.description, where)
        for name, info in required.items()
        if name not in mapping and not any(nearest(word, [name]) for word in unknown)
    ]


def _missing_problem(name: str, description: str | None, where: Span) -> Problem:
    return Problem(f"`{name}` is missing", where, (f"{name}: {description}",) if description else ())


def _errors(error: ValidationError, node: Node) -> list[dict[str, Any]]:
    """Pydantic's errors, without what the other branches of a union say of a value that its own branch refuses."""
    details: list[dict[str, Any]] = [{**detail} for detail in error.errors(include_url=False)]
    telling = [detail for detail in details if not str(detail["type"]).endswith(("_type", "_parsing"))]
    explained = {id(_deepest(detail["loc"], node)[1]) for detail in telling}
    return telling + [
        detail for detail in details if detail not in telling and id(_deepest(detail["loc"], node)[1]) not in explained
    ]


def _deepest(location: tuple[Any, ...], node: Node) -> tuple[str, Node]:
    """The name and node of the deepest step of a location that was written."""
    name = ""
    for step in location:
        inner: Node | None = None
        if isinstance(node, Mapping) and isinstance(step, str):
            inner = node.get(step)
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node):
            inner = node.items[step]
        if inner is None:
            break
        name, node = (step if isinstance(step, str) else name), inner
    return name, node


def _problem(error: Dict[str, Any], mapping: Mapping, where: Span, model: type[BaseModel]) -> Problem:
    """One of pydantic's errors, at the deepest node of its location."""
    name, node = _deepest(error["loc"], mapping)
    blamed = (
        _spoken_of(str(error["msg"]), node) if isinstance(node, Mapping) and error["type"] == "value_error" else None
    )
    if blamed is not None:
        return Problem(_message(error, name, node), blamed.value.span)
    if error["type"] == "missing":
        missing = str(error["loc"][-1])
        info = next((i for n, i in model.model_fields.items() if (i.alias or n) == missing), None)
        return _missing_problem(missing, info.description if info else None, where if node is mapping else node.span)
    return Problem(_message(error, name, node), where if node is mapping else node.span)


def _spoken_of(message: str, mapping: Mapping) -> Entry | None:
    """The written field that a message about several of them names first."""
    places = {entry.name: re.search(rf"\b{re.escape(entry.name)}\b", message) for entry in mapping}
    named = {name: place.start() for name, place in places.items() if place is not None}
    return mapping.entry(min(named, key=lambda name: named[name])) if named else None


def _message(error: Dict[str, Any], name: str, node: Node) -> str:
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    subject = re.match(r"(Input|Tuple|List|Set|Dictionary|String|Value) should", text)
    if subject and name:
        text = f"`{name}` should{text[subject.end() :]}".replace(" after validation", "")
        return f"{text}; it is `{node.text}`" if isinstance(node, Scalar) else text
    return text
