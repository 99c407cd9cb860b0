"""No module reaches itself by imports, be they in functions or for type checkers alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import house


def test_no_module_reaches_itself_by_imports() -> None:
    graph = house.import_graph()
    assert len(graph) > 400 and graph.number_of_edges() > 1500, "all of the package was read"
    assert house.circles(graph) == []


@pytest.mark.parametrize(
    "back",
    [
        "from turning.first import A\n",
        "def late():\n    from turning.first import A\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from turning.first import A\n",
        "from . import first\n",
        "from turning import through\n",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(
    back: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "turning"
    folder.mkdir()
    files = {
        "__init__": "",
        "first": "from turning.second import B\n",
        "second": back,
        "through": "import turning.first",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (circle,) = house.circles(house.import_graph("turning"))
    assert {"turning.first", "turning.second"} <= set(circle)


def test_a_tower_is_understood_from_four_files() -> None:
    """Its own file and what it imports within `components/`; how attention is computed stands behind one function."""
    towers = house.towers(house.import_graph())
    assert len(towers) >= 9
    assert {tower.name: tower.files for tower in towers if len(tower.files) > 4} == {}


def test_few_results_are_worked_out_by_hand() -> None:
    """What annotations cannot say of a result is the exception: everything else is declared beside it."""
    assert len(house.hooks()["output"]) <= 12
