"""Editors find the schema beside the built-in blueprints, and it is the one of today's kinds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from compose_vlp import registry
from compose_vlp.blueprint.locate import LIBRARY, builtin_names
from compose_vlp.blueprint.schema import json_schema

SCHEMA = LIBRARY / "schema.json"


def test_schema_beside_the_blueprints_is_up_to_date() -> None:
    made = json_schema(registry.get(name) for name in registry.catalogue())
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == made, (
        "kinds have changed: compose-vlp schema --out blueprints/schema.json"
    )


@pytest.mark.parametrize("name", builtin_names())
def test_first_line_of_a_blueprint_names_the_schema(name: str) -> None:
    file = LIBRARY / f"{name}.yaml"
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    named = Path(os.path.normpath(file.parent / first.partition("=")[2]))
    assert named.resolve() == SCHEMA.resolve()
