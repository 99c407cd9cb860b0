"""Every blueprint, or part of one, that a page shows passes `check`: nothing is computed.

    <!-- check -->                     a `yaml` block that is a blueprint
    <!-- check: tiny/coca -->          a part of one, laid over these blueprints
    <!-- check: tiny/coca; a: b -->    the same with another line of YAML, which reads what the block only defines

A block that is saved to a file passes as well, unless a block of its page that runs names the file, and so proves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose_vlp import Blueprint
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
YAML = re.compile(r"^(?:<!-- (?P<order>[^\n]*?) -->\n)?```yaml[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FENCES = re.compile(r"^\s*```ya?ml", re.MULTILINE)


def shown() -> Iterator[tuple[str, str, str]]:
    """Place, announcement and text of each block of YAML in the pages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in YAML.finditer(text):
            line = text.count("\n", 0, match.start("body")) + 1
            yield f"{page.relative_to(ROOT)}:{line}", match["order"] or "", match["body"]


BLOCKS = list(shown())


@pytest.mark.parametrize(("place", "order", "body"), BLOCKS, ids=[place for place, *_ in BLOCKS])
def test_a_blueprint_that_a_page_shows_passes_check(
    place: str, order: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if body.startswith("sweep:"):
        pytest.skip("a sweep, which is no blueprint")
    announced, _, named = order.partition(": ")
    assert announced in ("check", "save"), f"{place}: its announcement has to be <!-- check: BLUEPRINT ... -->"
    if named == "wrong.yaml":
        pytest.skip("tests/blueprint/test_language_page.py holds it to its messages")
    run = "".join(block.body for block in blocks(ROOT / place.partition(":")[0]) if block.file is None)
    if announced == "save" and named in run:
        pytest.skip("the page's own commands run it")
    monkeypatch.chdir(tmp_path)
    bases, _, more = named.partition("; ") if announced == "check" else ("", "", "")
    (tmp_path / "block.yaml").write_text(f"{body}{more}\n", encoding="utf-8")
    Blueprint.load(*bases.split(), "block.yaml").check()


def test_no_block_is_passed_over() -> None:
    assert len(BLOCKS) == sum(len(FENCES.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 20
