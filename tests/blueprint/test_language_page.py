"""The language's page: its blueprints are read, and its mistakes are the ones that are reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compose_vlp.blueprint.document import SECTIONS
from compose_vlp.blueprint.reader import read_text
from compose_vlp.blueprint.render import render
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.blueprint.sections import OUTPUTS, Optimizer, Stage, Tracking, field_names
from compose_vlp.blueprint.structure import check_structure

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- save: (\S+) -->\n)?```yaml\n(.*?)```", PAGE, re.DOTALL)
SAVED = {name: text for name, text in BLOCKS if name}


@pytest.mark.parametrize("text", [text for name, text in BLOCKS if name != "wrong.yaml"])
def test_every_blueprint_of_the_page_is_read(text: str) -> None:
    reading = read_text(text, "page.yaml")
    assert not reading.problems
    assert not check_structure(reading.root).problems


def test_the_mistakes_of_the_page_are_the_ones_that_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in SAVED.items():
        Path(name).write_text(text, encoding="utf-8")
    resolution = resolve(["wrong.yaml"])
    (expected,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert render(resolution.problems, resolution.document.lines()) == expected


def test_the_page_names_every_section_and_every_field() -> None:
    fields = {name for model in (Stage, Optimizer, Tracking, *OUTPUTS.values()) for name in field_names(model)}
    missing = [name for name in (*SECTIONS, *fields) if not re.search(rf"\b{name}\b", PAGE)]
    assert missing == []
