"""The gallery of mistakes shows mistakes, each with its place and a way out."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_mistakes", ROOT / "docs" / "gen_mistakes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GALLERY = load()


@pytest.mark.parametrize("mistake", GALLERY.MISTAKES, ids=lambda mistake: mistake.title)
def test_mistake_is_shown_with_its_place_and_carets(mistake) -> None:
    printed = GALLERY.printed_for(mistake)
    count = int(re.search(r"^(\d+) mistakes?$", printed, re.MULTILINE)[1])  # type: ignore[index]
    places = re.findall(r"^(?:[\w/]+\.yaml:\d+:\d+|command line): ", printed, re.MULTILINE)
    assert len(places) == count
    assert len(re.findall(r"^ +\| +\^+$", printed, re.MULTILINE)) == count
    assert str(Path.cwd()) not in printed


def test_page_has_every_mistake(tmp_path: Path) -> None:
    text = GALLERY.mistakes_page()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [mistake.title for mistake in GALLERY.MISTAKES]
    assert text.count("```text\n") == len(GALLERY.MISTAKES)


def test_example_that_is_no_mistake_breaks_the_page() -> None:
    with pytest.raises(ValueError, match="nothing is wrong with this"):
        GALLERY.printed_for(GALLERY.Mistake("sound", "", text="extends: tiny/coca\n"))
