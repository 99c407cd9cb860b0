"""A JSON Schema of blueprints, for editors: sections, component kinds with their fields, losses with their ports.

A blueprint may extend another one and write a part of an entry only, so nothing is required; a key that no kind has is
marked all the same, and `$name` stands for any value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from compose_vlp.blueprint import sections
from compose_vlp.blueprint.document import DRAFT, RESERVED, SECTIONS
from compose_vlp.blueprint.inputs import INPUTS
from compose_vlp.blueprint.schedules import Schedule

Json = dict[str, Any]
_NAME = r"^[^\W\d_]\w*$"
_PARAM: Json = {"type": "string", "pattern": r"^\$[^\W\d_]\w*$", "description": "the value of a param"}
_EXPRESSION: Json = {"type": "string", "description": "an expression: `image_proj(v.cls)`, `matched(t=t[neg.text])`"}
_WORDS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_PORT: Json = {"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array", "items": {"type": "string"}}]}
_UNTITLED = ("title", "default", "required")


class PortLike(Protocol):
    """The facts known of a loss's port."""

    @property
    def takes_number(self) -> bool: ...


class KindLike(Protocol):
    """The facts known of a kind of component, loss, tokenizer or source."""

    @property
    def name(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def config(self) -> type[BaseModel] | None: ...
    @property
    def ports(self) -> Mapping[str, PortLike]: ...
    @property
    def doc(self) -> str: ...
    @property
    def slot(self) -> str: ...


def json_schema(kinds: Iterable[KindLike]) -> Json:
    """The schema of a blueprint's file, for the kinds that are known."""
    known = sorted(kinds, key=lambda kind: kind.name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "compose-vlp blueprint",
        "type": "object",
        "properties": {name: _section(name, known) for name in SECTIONS},
        "patternProperties": {f"^{DRAFT}": {"description": "free: kept, and tagged in tracking"}},
        "additionalProperties": False,
    }


def _section(name: str, kinds: Collection[KindLike]) -> Json:
    section = SECTIONS[name]
    made = _bodies(name, kinds)
    if section.form == "entries":
        made = _named(made)
    return {"description": section.about, **made}


def _bodies(name: str, kinds: Collection[KindLike]) -> Json:
    """The schema of a section, or of one entry of a section of entries."""
    if name in sections.ONE_VALUE:
        return _of_type(sections.ONE_VALUE[name])
    if name in ("extends", "drop"):
        return _WORDS
    if name == "graph":
        return _EXPRESSION
    if name == "params":
        return {"anyOf": [{"type": ["string", "number", "boolean", "array"]}, _of_model(Schedule)]}
    if name == "inputs":
        return _chosen("type", {name: _of_model(model) for name, model in INPUTS.items()})
    if name == "outputs":
        return {"anyOf": [_EXPRESSION, *(_of_model(model) for model in sections.OUTPUTS.values())]}
    if name == "start":
        return {"type": "array", "items": _of_model(sections.Start)}
    if name == "components":
        share = {"share": {"type": "object", "description": "parts that are another component's"}}
        usable = [kind for kind in kinds if kind.category in ("component", "tokenizer")]
        return _chosen("use", {kind.name: _with_parts(kinds, _of_kind(kind, share)) for kind in usable})
    if name == "losses":
        weight = {"weight": _or_param({"anyOf": [{"type": "number"}, _of_model(Schedule)]})}
        return _chosen("use", {kind.name: _of_kind(kind, weight) for kind in kinds if kind.category == "loss"})
    if name == "adapters":
        fields = _of_model(sections.Adapter)["properties"]
        return _chosen("use", {kind.name: _of_kind(kind, fields) for kind in kinds if kind.category == "adapter"})
    if name == "data":
        mix = _of_model(sections.DataSource)
        return _chosen("use", {k.name: _of_kind(k, {}) for k in kinds if k.category == "source"}, mix["properties"])
    model = sections.model_of(name, None)
    assert model is not None, f"every section has a schema: {name}"
    return _of_model(model)


def _named(entry: Json) -> Json:
    return {
        "type": "object",
        "propertyNames": {"pattern": _NAME, "not": {"enum": sorted(RESERVED)}},
        "additionalProperties": entry,
    }


def _chosen(key: str, bodies: Mapping[str, Json], common: Json | None = None) -> Json:
    """An entry whose `key` chooses its other fields; one that inherits its kind may have any kind's."""
    every = {name: True for body in bodies.values() for name in body["properties"]} | dict(common or {})
    chosen = [
        {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": _with_key(key, body)}
        for name, body in bodies.items()
    ]
    kind = {"enum": sorted(bodies), "description": "the kind of this entry"}
    return {
        "type": "object",
        "properties": {**every, key: kind},
        "additionalProperties": False,
        "allOf": chosen,
    }


def _with_key(key: str, body: Json) -> Json:
    return {**body, "properties": {key: True, **body["properties"]}}


def _with_parts(kinds: Collection[KindLike], body: Json) -> Json:
    """Open the slots among a kind's settings to the kinds that fill them.

    A slot of an inner part, such as what each expert of a mixture is, takes names of kinds and any settings: its kinds
    have that slot again, and so on without end.
    """
    for field, slot in _slots(body):
        inner = {kind.name: _of_kind(kind, {}) for kind in kinds if kind.slot == slot}
        for deeper, name in (pair for part in inner.values() for pair in _slots(part)):
            names = sorted(kind.name for kind in kinds if kind.slot == name)
            deeper["anyOf"] = [{"enum": names}, {"type": "object"}, _PARAM]
        field["anyOf"] = [{"enum": sorted(inner)}, _chosen("use", inner), _PARAM]
    return body


def _slots(body: Json) -> Iterator[tuple[Json, str]]:
    """Take the marks off the settings that are slots; each is to be filled by the caller."""
    for field in body["properties"].values():
        if isinstance(field, dict) and (slot := field.pop("slot", None)):
            del field["kind"], field["anyOf"]
            yield field, slot


def _of_kind(kind: KindLike, common: Json) -> Json:
    """The settings of a kind; of a loss its ports too."""
    fields: Json = dict(_of_model(kind.config)["properties"]) if kind.config else {}
    ports = {name: _of_port(port) for name, port in kind.ports.items()} if kind.category == "loss" else {}
    made: Json = {"type": "object", "properties": {**ports, **fields, **common}, "additionalProperties": False}
    return {"description": kind.doc.split("\n\n")[0], **made} if kind.doc else made


def _of_port(port: PortLike) -> Json:
    """A name, a literal or a list of names; a schedule too, where a number may stand."""
    return {"anyOf": [*_PORT["anyOf"], _of_model(Schedule)]} if port.takes_number else _PORT


def _of_model(model: type[BaseModel]) -> Json:
    """A model's schema without references, every field open to `$name`, none required."""
    raw = model.model_json_schema(by_alias=True, mode="validation", schema_generator=GenerateJsonSchema)
    made = _inline(raw, raw.get("$defs", {}))
    assert isinstance(made, dict), "a model is an object"
    made["properties"] = {name: _or_param(field) for name, field in made.get("properties", {}).items()}
    return made


def _of_type(annotation: Any) -> Json:
    raw = TypeAdapter(annotation).json_schema(mode="validation")
    made: Json = _inline(raw, raw.get("$defs", {}))
    return made


def _or_param(field: Json) -> Json:
    described = {"description": field["description"]} if "description" in field else {}
    if "slot" in field:  # what may stand there is known where all kinds are
        return {**described, "slot": field["slot"], "kind": field["kind"], "anyOf": []}
    body = {key: value for key, value in field.items() if key != "description"}
    choices = body["anyOf"] if set(body) == {"anyOf"} else [body]
    return {**described, "anyOf": [*choices, _PARAM]}


def _inline(node: Any, definitions: Json) -> Any:
    """The schema with definitions put in their places, without titles, defaults and required fields."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return _inline({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    made = {}
    for key, value in node.items():
        if key == "properties":
            made[key] = {name: _inline(field, definitions) for name, field in value.items()}
        elif key != "$defs" and key not in _UNTITLED:
            made[key] = _inline(value, definitions)
    return made
