"""How objects are shown: one short line at a prompt, a graph and tables in a notebook, nobody's words obeyed."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from compose_vlp import Blueprint, Run
from compose_vlp.cli.run import run as run_command
from compose_vlp.run import Output, load
from tests.models import TINY, tiny

SHORT = ("stages.pretrain.length=1 steps", "stages.pretrain.batch=4", "data.pairs.size=16", "data.pairs.count=12")
HOSTILE = '<script>boom()</script> \x1b[2J & "quoted"'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("shown") / "<b>run"
    assert run_command(["train", "tiny/blip", *TINY, *SHORT, "--no-track", "--out", str(folder)]) == 0
    return load(folder)


def test_each_is_one_short_line(run: Run) -> None:
    blueprint = Blueprint.load("tiny/coca")
    checked, (compiled,) = blueprint.check(), blueprint.compile().values()
    assert repr(blueprint) == "<Blueprint coca_tiny: 11 components, 2 losses>"
    assert repr(checked) == "<CheckedBlueprint coca_tiny: 11 components, 2 losses, 3 outputs, 1 stage>"
    assert repr(compiled) == f"<Compiled pretrain: {compiled.plan.counted()} calls, 8 passes>"
    assert repr(run).startswith("<Run blip_tiny: step 1 (stage `pretrain`) of a finished run, ")
    assert repr(run.caption) == "<Output caption: generate, (image)>"
    assert repr(Blueprint.load("tiny/coca", overrides="components.vision.heds=2")).endswith("2 losses, 1 mistake>")


def hostile(folder: Path, more: str = "") -> Blueprint:
    file = folder / "hostile.yaml"
    text = HOSTILE.replace("\x1b", "\\x1b").replace('"', '\\"')
    file.write_text(f'extends: tiny/coca\nname: "{text}"\ntitle: "{text}"\n{more}', encoding="utf-8")
    return Blueprint.load(file)


def images(page: str) -> list[str]:
    return [base64.b64decode(data).decode() for data in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)]


def test_a_notebook_shows_graph_and_tables(run: Run) -> None:
    blueprint = Blueprint.load("tiny/coca")
    for page, words in ((blueprint._repr_html_(), "attention_pooler"), (run._repr_html_(), "text_embedding")):
        (graph,) = images(page)
        assert ET.fromstring(graph).tag.endswith("svg") and words in page
        closed = page.replace('%">', '%"/>')  # the image: HTML does not close one
        ET.fromstring(f"<div>{closed}</div>")
    assert "<table>" in blueprint.check()._repr_html_() and "dedupe" in blueprint.compile()["pretrain"]._repr_html_()
    assert "<td>(image)</td>" in run.caption._repr_html_()


def test_names_are_shown_as_words_and_obeyed_by_nothing(tmp_path: Path, run: Run) -> None:
    blueprint = hostile(tmp_path)
    assert "\x1b" not in repr(blueprint) and "\n" not in repr(blueprint) and "boom()" in repr(blueprint)
    compiled = blueprint.compile()["pretrain"]
    for page in (blueprint._repr_html_(), blueprint.check()._repr_html_(), compiled._repr_html_(), run._repr_html_()):
        for text in (page, *images(page)):
            assert "<script" not in text and "\x1b" not in text and "<b>run" not in text
    assert "&lt;b&gt;run" in run._repr_html_()


def test_a_notebook_shows_the_mistakes_of_a_blueprint(tmp_path: Path) -> None:
    page = hostile(tmp_path, 'components:\n  vision: {heads: "<script>"}\n')._repr_html_()
    assert "hostile.yaml:5" in page and "<script" not in page and not images(page)


def test_an_output_without_fields_of_a_record_says_so() -> None:
    asker = tiny("tiny/blip")
    for name in asker.blueprint.outputs:
        assert repr(Output(asker, name)).startswith(f"<Output {name}: ")
