"""The pages of the kinds say what the kinds say, and the built site loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from compose_vlp import registry
from compose_vlp.graph.kinds import Kind, Pattern, Port, Setting, Traits
from compose_vlp.graph.types import Flow, ScalarType

ELSEWHERE = re.compile(r'<(?:link|script|img|iframe)[^>]*(?:href|src)="(https?:[^"]*)"')


@pytest.fixture(scope="module")
def pages(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_components", root / "docs" / "gen_components.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def adapter() -> Kind:
    sequence = Pattern("Sequence", ("rows", "tokens", "width"))
    return Kind(
        name="adapter",
        category="component",
        ports={
            "x": Port("x", (sequence,), flow=Flow.EACH),
            "mode": Port("mode", (), literal=True, default="a", choices=("a", "b")),
            "soft": Port("soft", (Pattern("Logits"),), default=None, detached=True),
        },
        output=lambda config, arguments: ScalarType(),
        returns=sequence,
        settings={
            "hidden": Setting("hidden", "int", 64, "width of the | bottleneck", bounds={"gt": 0}),
            "width": Setting("width", "int", None, inferred=""),
            "kind": Setting("kind", "str"),
        },
        traits=Traits(rows="independent", state="none", draws="none"),
        parts={"down": "down.weight"},
        doc="A bottleneck\nbeside the stream.\n\nMore.",
        source="my.adapter",
    )


def test_page_shows_ports_result_settings_parts_and_promises(pages: ModuleType, adapter: Kind) -> None:
    text = pages.kind_page(adapter)
    assert "| `x` | `Sequence[rows tokens width]` | `each` | yes |" in text
    assert '| `mode` | `"a"` or `"b"` | `all` | no, `a` |' in text
    assert "| `soft` | `Logits` | no position (detached) | no, `none` |" in text
    assert "Gives `Sequence[rows tokens width]`." in text
    assert "| `hidden` | `int` | `64` | > 0 | width of the &#124; bottleneck |" in text
    assert "| `width` | `int` | inferred |  |  |" in text
    assert "| `kind` | `str` | must be given |  |  |" in text
    assert "| `down` | `down.weight` |" in text
    assert "- nothing is drawn" in text


def test_index_gives_the_first_paragraph_of_each_kind_on_one_line(pages: ModuleType, adapter: Kind) -> None:
    assert "| [`adapter`](adapter.md) | A bottleneck beside the stream. |" in pages.index_page([adapter])


def test_every_registered_kind_is_described_and_says_what_its_settings_are() -> None:
    kinds = [registry.get(name) for name in registry.catalogue()]  # other tests declare kinds of their own
    assert [kind.name for kind in kinds if not kind.doc] == []
    silent = [
        f"{kind.name}.{setting.name}"
        for kind in kinds
        for setting in kind.settings.values()
        if not setting.description and setting.inferred is None
    ]
    assert silent == []


@pytest.mark.slow
def test_built_site_has_a_page_for_each_kind_and_loads_nothing_from_elsewhere(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in registry.catalogue():
        assert (tmp_path / "components" / f"{name}.html").is_file()
    loaded = {hit for page in tmp_path.rglob("*.html") for hit in ELSEWHERE.findall(page.read_text(encoding="utf-8"))}
    assert loaded == set()
