"""Names, captions, paths and titles that are markup are shown on every page as the words that they are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typing_extensions import override

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.sections import Relevance
from compose_vlp.data.survey import survey
from compose_vlp.evaluation.answering import Answer, Answered
from compose_vlp.evaluation.classification import Choices, Classified
from compose_vlp.evaluation.data_page import data_page
from compose_vlp.evaluation.explaining import Explained
from compose_vlp.evaluation.page import Example, Section, Tile, gallery, results_page, tiles, titled
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import Results
from compose_vlp.evaluation.seeing import see
from compose_vlp.pages import Series, curves, document, table
from compose_vlp.picture import Numbers, diagram_of, page, svg
from compose_vlp.picture.diagram import Arrow, Box, Diagram

HOSTILE = "</script></style></title><hostile onload=boom()>'\"><img src=x onerror=boom()>&lt;\x00\x1b\ud83d\uffff"


class Inert(HTMLParser):
    """Reads a page, and remembers what would do something."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []
        self.words: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("hostile", "iframe", "object", "embed", "form", "base"):
            self.active.append(tag)
        for name, value in attrs:
            address = name in ("src", "href", "action", "xlink:href") and not re.match(
                r"data:image/(png|jpeg);|#", value or ""
            )
            if name.startswith("on") or address:
                self.active.append(f"{tag} {name}={value}")

    @override
    def handle_data(self, data: str) -> None:
        self.words.append(data)


def assert_inert(text: str, *, shown: bool = True) -> None:
    """The page can be written, nothing in it does anything, and the hostile words are there as words."""
    text.encode("utf-8")
    reader = Inert()
    reader.feed(text)
    reader.close()
    assert not reader.active
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    assert ("<hostile onload=boom()>" in "".join(reader.words)) is shown


def test_results_are_shown_as_words() -> None:
    picture = Image.new("RGB", (8, 8))
    sections = [
        Section(HOSTILE, gallery([Example(picture, HOSTILE, HOSTILE, HOSTILE, right=True)]), HOSTILE),
        Section("curves", titled(HOSTILE, curves([Series(HOSTILE, [(0, 1), (1, 2)])], x=HOSTILE, label=HOSTILE))),
        Section("table", table([HOSTILE, "n"], [[HOSTILE, 3]])),
        Section("tiles", tiles([Tile(HOSTILE, HOSTILE, HOSTILE, HOSTILE)])),
    ]
    assert_inert(results_page(HOSTILE, HOSTILE, sections, {HOSTILE: HOSTILE}))
    assert_inert(document(HOSTILE))


def test_what_a_run_measured_is_shown_as_words() -> None:
    nothing: Any = None  # these tasks show no pictures, so that neither model nor records are asked
    answered = Answered({HOSTILE: (Answer(0, HOSTILE, {HOSTILE: 1.0}), Answer(1, "a", {HOSTILE: 1.0}))})
    classified = Classified({HOSTILE: Choices(HOSTILE, (HOSTILE, "b"), (0, 1), (0, 1), (1, 1))})
    results = Results(2, {"answering": answered, "classification": classified})
    assert_inert(page_of(results, nothing, nothing, title=HOSTILE, subtitle=HOSTILE))


def test_an_explanation_is_shown_as_words() -> None:
    settings = Relevance(relevance=HOSTILE, to="image", through=HOSTILE)
    heat = torch.ones(2, 2)
    explained = Explained(Image.new("RGB", (8, 8)), HOSTILE, 0.5, heat, ((HOSTILE, heat),), "stretch", settings)
    assert_inert(explained.page())


@pytest.mark.parametrize("headed", [True, False])
def test_a_graph_is_shown_as_words(headed: bool) -> None:
    details = ((HOSTILE, ((HOSTILE, HOSTILE),)),)
    boxes = (
        Box("a", "input", HOSTILE, (HOSTILE,), HOSTILE, HOSTILE, world=HOSTILE, details=details),
        Box("b", "loss", HOSTILE, (HOSTILE,), twin=HOSTILE),
    )
    diagram = Diagram(
        HOSTILE, HOSTILE, boxes, (Arrow("a", "b", HOSTILE, HOSTILE),), ((HOSTILE, HOSTILE),), f"javascript:{HOSTILE}"
    )
    assert_inert(svg(diagram, headed=headed))
    ET.fromstring(svg(diagram, headed=headed))
    assert_inert(page(diagram))


CAPTION = HOSTILE.replace("\ud83d", "").replace("\x00", "")
BLUEPRINT = """
extends: tiny/coca
name: "{title}"
paper: "{title}"
inputs:
  image: {{from: file, size: 16}}
data:
  pairs: {{use: csv, path: captions.csv, pictures: [file]}}
components:
  bpe: {{vocab_size: 300}}
  vision: {{patch: 8, stem: patch, stem_depth: 0}}
"""


def test_a_data_set_is_shown_as_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["a.png", "<hostile onload=boom()>.png", "<hostile onload=boom()> broken.png"]
    for file in files:
        Image.new("RGB", (20, 10)).save(tmp_path / file)
    (tmp_path / files[-1]).write_text("no picture")
    quoted = CAPTION.replace('"', '""')
    rows = "".join(f'{file},"{quoted}","{quoted}"\n' for file in files)
    (tmp_path / "captions.csv").write_text("file,caption,<hostile onload=boom()>\n" + rows, encoding="utf-8")
    title = "<hostile onload=boom()><script>boom()</script>"
    (tmp_path / "mine.yaml").write_text(BLUEPRINT.format(title=title))
    blueprint = Blueprint.load(tmp_path / "mine.yaml").check()
    sight = see(blueprint)
    looked = survey(sight.source, range(3), collator=sight.collator())
    assert set(looked.broken) == {2}
    assert_inert(data_page(sight, looked, sight.token_lengths(0), title=blueprint.name))
    diagram = diagram_of(blueprint, Numbers(facts=((title, title),)))
    assert_inert(page(diagram))
    assert_inert(svg(diagram))
