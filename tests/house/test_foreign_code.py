"""Libraries that would run code of whoever made a folder are told not to, wherever they are called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LOADERS = {"from_pretrained", "from_config"}
"""Of transformers: each runs a folder's own code, if somebody at the terminal says yes."""


def calls(root: Path) -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Place, name and named arguments of every call in the product."""
    for folder in ("compose_vlp", "components", "benchmarks", "tools"):
        for file in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    function = node.func
                    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                    yield (
                        f"{file}:{node.lineno}",
                        name,
                        {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg},
                    )


def test_transformers_is_told_to_trust_no_code(root: Path) -> None:
    actual = [(place, named) for place, name, named in calls(root) if name in LOADERS]
    assert actual
    for place, named in actual:
        trusts = named.get("trust_remote_code")
        assert isinstance(trusts, ast.Constant), place
        assert trusts.value is False, place


@pytest.mark.parametrize(
    ("name", "argument", "value"), [("load", "weights_only", True), ("load", "allow_pickle", False)]
)
def test_pickles_are_read_nowhere(root: Path, name: str, argument: str, value: bool) -> None:
    """`torch.load` and `np.load` are called with the argument that forbids them."""
    library = "torch" if argument == "weights_only" else "np"
    for folder in ("compose_vlp", "components"):
        for file in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == name
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == library
                ):
                    given = {keyword.arg: keyword.value for keyword in node.keywords}.get(argument)
                    assert isinstance(given, ast.Constant) and given.value is value, f"{file}:{node.lineno}"
