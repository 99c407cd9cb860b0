"""Large blueprints take a time that grows with their size, or are refused: nobody waits for a message."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.blueprint.resolve import resolve
from tests.blueprint.conftest import PAPERS

BASE = "extends: coca\n"
LARGE: dict[str, Callable[[int], str]] = {
    "classes": lambda n: f"inputs:\n  label: {{type: label, classes: [{', '.join(f'c{i}' for i in range(n))}]}}\n",
    "classes that open brackets": lambda n: (
        f"inputs:\n  label: {{type: label, classes: [{', '.join(f'c (c{i}' for i in range(n))}]}}\n"
    ),
    "an expression that is never closed": lambda n: f"x-a: [f(a, {', '.join(f'c{i}' for i in range(n))}]\n",
    "keys written twice": lambda n: "graph:\n" + "".join(f"  a{i // 2}: first(joint)\n" for i in range(n)),
    "one key again and again": lambda n: "graph:\n" + "  a: first(joint)\n" * n,
    "a long value": lambda n: f"title: {'a' * n * 20}\n",
    "brackets": lambda n: f"graph:\n  fused: {'(' * n}\n",
    "arguments": lambda n: f"graph:\n  fused: add([{', '.join(['joint'] * n)}])\n",
}


def seconds(text: str, overrides: list[str], folder: Path) -> float:
    """Processor time of reading and merging."""
    (folder / "large.yaml").write_text(BASE + text)
    began = time.process_time()
    resolve([str(folder / "large.yaml")], overrides, library=PAPERS)
    return time.process_time() - began


@pytest.mark.parametrize("name", LARGE)
def test_four_times_as_much_takes_about_four_times_as_long(name: str, tmp_path: Path) -> None:
    small, large = (min(seconds(LARGE[name](n), [], tmp_path) for _ in range(2)) for n in (2000, 8000))
    assert large < 8 * max(small, 0.05), f"{small:.2f} s, and {large:.2f} s for four times as much"


def test_thousands_of_overrides_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BASE)
    overrides = [f"components.vision.depth={number}" for number in range(2000)]
    problems = resolve([str(tmp_path / "mine.yaml")], overrides, library=PAPERS).problems
    assert [problem.message for problem in problems] == ["2,000 overrides; 500 are the most"]


def test_each_of_many_overrides_of_one_path_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BASE)
    overrides = [f"components.vision.depth={number}" for number in range(300)]
    problems = resolve([str(tmp_path / "mine.yaml")], overrides, library=PAPERS).problems
    assert {problem.message for problem in problems} == {"two overrides of `components.vision.depth`"}
    assert len(problems) == 299


def test_thousands_of_entries_of_a_section_are_refused(tmp_path: Path) -> None:
    text = "outputs:\n" + "".join(f"  o{number}: joint\n" for number in range(2500))
    (tmp_path / "mine.yaml").write_text(BASE + text)
    problems = resolve([str(tmp_path / "mine.yaml")], library=PAPERS).problems
    assert "2,500 entries of `outputs`; 2,000 are the most" in [problem.message for problem in problems]
