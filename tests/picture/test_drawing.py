"""The picture and its page: whole files that ask for nothing, with all that is in the diagram."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from compose_vlp.picture import Numbers, diagram_of, page, svg
from compose_vlp.picture.diagram import Arrow, Box, Diagram
from tests.graph.support import FIVE, paper

NASTY = "</script><b>\"&'x"


def nasty() -> Diagram:
    boxes = (Box("a", "input", NASTY, name=NASTY, carries=NASTY), Box("b", "loss", NASTY, notes=(NASTY,)))
    return Diagram(NASTY, NASTY, boxes, (Arrow("a", "b", NASTY, NASTY),), ((NASTY, NASTY),), paper=NASTY)


@pytest.mark.parametrize("name", FIVE)
def test_svg_is_well_formed_and_draws_every_box_and_arrow(name: str) -> None:
    diagram = diagram_of(paper(name))
    root = ET.fromstring(svg(diagram))
    drawn = [element.get("data-box", "") for element in root.iter() if element.get("data-box")]
    assert sorted(drawn) == sorted(box.id for box in diagram.boxes)
    arrows = {(e.get("data-from"), e.get("data-to")) for e in root.iter() if e.get("data-from")}
    assert arrows == {(arrow.source, arrow.target) for arrow in diagram.arrows}


@pytest.mark.parametrize("text", [svg(diagram_of(paper("albef"))), page(diagram_of(paper("albef")))])
def test_nothing_is_asked_for_from_elsewhere(text: str) -> None:
    without_names = text.replace("http://www.w3.org/2000/svg", "").replace("https://arxiv.org/abs/2107.07651", "")
    assert not re.search(r"https?:|src=|@import|url\((?!#)", without_names)


def test_words_of_a_blueprint_are_never_markup() -> None:
    root = ET.fromstring(svg(nasty()))
    assert NASTY in "".join(root.itertext())
    text = page(nasty())
    assert NASTY not in text
    assert text.count("</script>") == text.count("<script")
    assert "href" not in text  # a paper that is no address is no link


def test_data_of_the_page_is_the_diagram() -> None:
    diagram = diagram_of(paper("coca"), Numbers({"vision": 1}))
    actual = re.search(r'<script type="application/json" id="data">(.*?)</script>', page(diagram), re.DOTALL)
    assert actual
    data = json.loads(actual[1])
    assert set(data["boxes"]) == {box.id for box in diagram.boxes}
    assert data["boxes"]["visual.vision"]["share"] == 1.0
    assert len(data["arrows"]) == len(diagram.arrows)


def test_legend_explains_only_what_occurs() -> None:
    assert "teacher" in "".join(ET.fromstring(svg(diagram_of(paper("albef")))).itertext())
    coca = "".join(ET.fromstring(svg(diagram_of(paper("coca")))).itertext())
    assert "a teacher's world" not in coca
    assert "pruned: nothing reads it" in coca


def test_both_modes_have_every_colour() -> None:
    text = svg(diagram_of(paper("coca")))
    light = set(re.findall(r":root (\.[\w .]+)\{", text))
    dark = set(re.findall(r":root\[data-theme=dark\] (\.[\w .]+)\{", text))
    system = set(re.findall(r":root:not\(\[data-theme=light\]\) (\.[\w .]+)\{", text))
    assert light == dark == system
    assert ".tower .body" in light
