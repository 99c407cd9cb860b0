"""What is imported when: heavy libraries only where something asks for them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "torchvision", "timm", "transformers", "mlflow", "accelerate", "scipy", "pandas", "sklearn", "PIL")


def modules_after(program: str) -> set[str]:
    listing = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def seconds_of(program: str) -> float:
    """The quickest of five: what the program takes, without what else the machine is doing."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.parametrize("module", ["compose_vlp", "compose_vlp.errors", "compose_vlp.registry"])
def test_importing_costs_no_heavy_library(module: str) -> None:
    assert modules_after(f"import {module}").isdisjoint(HEAVY)


def test_listing_the_kinds_imports_none_of_them() -> None:
    loaded = modules_after("from compose_vlp import registry\nassert registry.names()")
    assert loaded.isdisjoint(HEAVY)
    assert not [name for name in loaded if name.startswith("compose_vlp.components.")]


def test_importing_the_package_takes_under_a_tenth_of_a_second() -> None:
    assert seconds_of("import compose_vlp") - seconds_of("pass") < 0.1
