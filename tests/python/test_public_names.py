"""What `import compose_vlp` offers: names with examples that hold, and a stub that says the same."""

from __future__ import annotations

import ast
import doctest
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import compose_vlp
from compose_vlp import Blueprint, Run, TrainOptions
from compose_vlp.run import Output

METHODS = ("load", "check", "compile", "report", "build", "train")


def described() -> list[tuple[str, Any]]:
    """The public names that can have an example, in an order in which they can be tried: a run is trained first."""
    methods = [(f"Blueprint.{name}", getattr(Blueprint, name)) for name in METHODS]
    names = [name for name in compose_vlp.__all__ if not name.startswith("__")]
    return [
        *methods,
        *((name, getattr(compose_vlp, name)) for name in names),
        ("Run.module", Run.module),
        ("Output", Output),
    ]


def test_every_public_name_has_an_example_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {name: getattr(compose_vlp, name) for name in compose_vlp.__all__}
    runner, output = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), list[str]()
    for name, thing in described():
        example = doctest.DocTestParser().get_doctest(thing.__doc__ or "", dict(names), name, None, None)
        assert example.examples, f"{name} has no example"
        runner.run(example, out=output.append)
    assert not runner.failures, "".join(output)


def test_the_stub_names_what_the_package_offers() -> None:
    file = Path(compose_vlp.__file__).with_suffix(".pyi")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = {
        f"{node.module}.{alias.name}" for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == {f"{home}.{name}" for name, home in compose_vlp._HOMES.items()}
    (listed,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert listed == compose_vlp.__all__ == dir(compose_vlp)


def test_the_version_is_the_distribution_s() -> None:
    assert compose_vlp.__version__ == version("compose-vlp")
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        _ = compose_vlp.version  # type: ignore[attr-defined]


def test_options_of_training_are_at_the_top() -> None:
    from compose_vlp.runtime.training.trainer import TrainOptions as Same

    assert TrainOptions is Same
