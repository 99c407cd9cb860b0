"""Tests compare two ways of computing in float64, or relative to a norm: elements of float32 differ by processor."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

DOUBLE = 'pytestmark = pytest.mark.usefixtures("double")'

BY_ELEMENT = ("testing.assert_close", "testing.assert_allclose")
WORST = re.compile(r" - [^()]*(\([^()]*\))?[^()]*\)\.abs\(\)\.(max|amax)\(\)\)* <")
"""The largest of a difference's elements, which has to be small."""


def element_by_element(source: str) -> Iterator[int]:
    """Lines that hold each element to a tolerance: `assert_close`, a true `allclose`, a worst difference."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("testing.assert_close", "testing.assert_allclose")
        ):
            yield node.lineno
        if isinstance(node, ast.Assert) and WORST.search(ast.unparse(node.test)):
            yield node.lineno
        if isinstance(node, ast.Assert):
            tests = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
            for test in tests:
                if isinstance(test, ast.Call) and ast.unparse(test.func).endswith("allclose"):
                    yield node.lineno


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("torch.testing.assert_close(a, b)", True),
        ("assert torch.allclose(a, b)", True),
        ("assert a.shape == b.shape and torch.allclose(a, b)", True),
        ("assert a.allclose(b)", True),
        ("np.testing.assert_allclose(a, b)", True),
        ("assert (a - b).abs().max() < 1e-5", True),
        ("assert float((a - f(b)).abs().max()) <= 1e-5", True),
        ("assert a.abs().max() < 1e-5", False),
        ("assert (a - b).abs().max() > 1e-5", False),
        ("assert not torch.allclose(a, b)", False),
        ("assert_near(a, b)", False),
    ],
)
def test_such_lines_are_found(line: str, is_one: bool) -> None:
    assert list(element_by_element(line)) == [1] * is_one


def test_elements_are_compared_in_float64_alone(root: Path) -> None:
    """Below `tests/components` everything is float64; another module says so itself, or takes `assert_near`."""
    for file in sorted((root / "tests").rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if root / "tests" / "components" not in file.parents and DOUBLE not in source.splitlines():
            lines = list(element_by_element(source))
            assert not lines, f"{file}, lines {lines}: take tests.support.assert_near, or the fixture `double`"
