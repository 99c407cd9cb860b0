"""The page of what is built in, and the picture that README and the home page show."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.locate import builtin_names
from compose_vlp.picture import diagram_of, svg


@pytest.fixture(scope="module")
def models_page(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_models", root / "docs" / "gen_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_names_every_built_in_blueprint(models_page: ModuleType) -> None:
    page = models_page.page()
    assert [name for name in builtin_names() if f"- `{name}`: " not in page] == []


def test_page_has_the_table_of_readme(models_page: ModuleType) -> None:
    assert "| blueprint | parameters |" in models_page.page()


def test_committed_picture_is_what_build_draws(root: Path) -> None:
    drawn = svg(diagram_of(Blueprint.load("coca").check()))
    path = root / "docs" / "pictures" / "coca.svg"
    assert path.read_text(encoding="utf-8") == drawn, f"run: compose-vlp build coca, and copy its graph.svg to {path}"
