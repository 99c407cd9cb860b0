"""What is imported when: heavy libraries only where something asks for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "transformers", "mlflow", "accelerate", "scipy", "pandas", "sklearn", "PIL")


def modules_after(program: str) -> set[str]:
    listing = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["compose_vlp", "compose_vlp.errors", "compose_vlp.registry"])
def test_importing_costs_no_heavy_library(module: str) -> None:
    assert modules_after(f"import {module}").isdisjoint(HEAVY)


def test_listing_the_kinds_imports_none_of_them() -> None:
    loaded = modules_after("from compose_vlp import registry\nassert registry.names()")
    assert loaded.isdisjoint(HEAVY)
    assert not [name for name in loaded if name.startswith("compose_vlp.components.")]


def test_importing_the_package_imports_little_else() -> None:
    # 26 modules, all of them Python's own but the package: about 10 ms. Modules are counted, because what a machine
    # takes for them is no property of the package.
    assert len(modules_after("import compose_vlp") - modules_after("pass")) < 50
