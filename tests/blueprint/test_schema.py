"""The JSON Schema that makes an editor complete and check blueprints."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from compose_vlp import registry
from compose_vlp.blueprint.document import SECTIONS
from compose_vlp.blueprint.locate import LIBRARY, builtin_names
from compose_vlp.blueprint.schema import json_schema


class _Loader(yaml.SafeLoader):
    """YAML as editors read it: version 1.2, where 1e-4 is a number and `no` a word."""


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^[-+]?\d+$", list("-+0123456789")),
    ("float", r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema(registry.get(name) for name in registry.names())


@pytest.fixture(scope="module")
def faults(schema: dict[str, Any]) -> Callable[[str], list[str]]:
    """Paths of what the schema refuses in a text."""
    validator = jsonschema.Draft202012Validator(schema)

    def find(text: str) -> list[str]:
        data = yaml.load(text, _Loader)
        return sorted({".".join(map(str, error.path)) for error in validator.iter_errors(data)})

    return find


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == list(SECTIONS)
    assert all(section["description"] for section in schema["properties"].values())


@pytest.mark.parametrize("name", builtin_names())
def test_the_built_in_blueprints_pass(faults: Callable[[str], list[str]], name: str) -> None:
    assert faults((LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("lossess: {}", ""),
        ("components: {v: {use: vitt}}", "components.v.use"),
        ("components: {v: {use: vit, detph: 3}}", "components.v"),
        ("components: {v: {use: vit, depth: many}}", "components.v.depth"),
        ("components: {v: {use: vit, depth: -1}}", "components.v.depth"),
        ("components: {losses: {use: vit}}", "components"),
        ("losses: {l: {use: contrastive, score: [a]}}", "losses.l"),
        ("inputs: {i: {type: image, size: 0}}", "inputs.i.size"),
        ("inputs: {i: {type: picture}}", "inputs.i.type"),
        ("outputs: {o: {generate: l, over: c, beam: 3}}", "outputs.o"),
        ("length: 3 weeks", "length"),
        ("precision: fp64", "precision"),
        ("stages: {s: {losses: a}}", "stages.s.losses"),
        ("optimizer: {lr: 1e-4, rate: 3}", "optimizer"),
        ("params: {p: {linear: [0, 1], cosine: 3}}", "params.p"),
        ("teachers: {t: {decay: 2}}", "teachers.t.decay"),
        ("data: {d: {use: jsonl, pth: x}}", "data.d"),
        ("graph: {g: [a]}", "graph.g"),
    ],
)
def test_a_mistake_is_marked(faults: Callable[[str], list[str]], text: str, at: str) -> None:
    assert at in faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "extends: coca\ncomponents: {vision: {depth: 3}}",  # inherits its kind
        "components: {v: {use: vit, depth: $n, share: {'*': w}}}",
        "losses: {l: {use: contrastive, scores: [a, b], weight: {linear: [0, 1], over: 1 epoch}}}",
        "optimizer: {lr: {cosine: [1e-4, 0], warmup: 5 %}, rules: [{match: '**.bias', weight_decay: 0}]}",
        "stages: {s: {data: {main: a, images: b}, losses: [l], length: 20 epochs, freeze: v, set: {inputs.i.size: 3}}}",
        "start: [{from: x, to: v}, {new: ['**']}]",
        "data: {web: {mix: {a: 1, b: 2}}}",
        "x-anything: [1, {a: b}]",
        "drop: ['losses.*']",
        "params: {a: 1, b: text, c: {constant: 1}, d: [1, 2]}",
    ],
)
def test_what_the_language_takes_passes(faults: Callable[[str], list[str]], text: str) -> None:
    assert faults(text) == []
