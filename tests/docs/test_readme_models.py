"""README's table of models says how many parameters each blueprint has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.readable import count

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (`[^|]*) \| ([\d.MB, ]+) \|.*?(`tiny/\w+`)? \|$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    """Blueprints with the figures that stand beside them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pairs: list[tuple[str, str]] = []
    for names, figures, _ in ROW.findall(text):
        pairs += zip(re.findall(r"`(\w+)`", names), figures.split(", "), strict=True)
    return pairs


@pytest.mark.parametrize(("name", "figure"), rows())
def test_parameters_are_those_of_the_blueprint(name: str, figure: str) -> None:
    parameters = build(Blueprint.load(name).check(), "meta").component_parameters()
    assert count(sum(parameters.values())) == figure


def test_every_paper_stands_there() -> None:
    papers = {path.stem for path in (ROOT / "blueprints").glob("*.yaml")}
    variants = {name for name in papers if name.startswith("coca_openclip_") or name in ("blip_large", "vlmo_staged")}
    assert {name for name, _ in rows()} == papers - variants
