"""What looking costs: no torch, and no waiting.

Costs are seconds of the processor, so that others' work on the machine does not count, and are held against an import
of Python's own library, so that a slow machine passes as a quick one does.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "transformers", "mlflow", "accelerate", "scipy", "PIL", "numpy")


REFERENCE = ("-c", "import asyncio, http.server, unittest.mock, xml.dom.minidom")
"""Takes about a tenth of a second."""


def cost(root: Path, *words: str) -> float:
    """The command's seconds over the reference's, the quickest of three runs of each, taken in turn."""
    pairs = [(_seconds(root, "-m", "compose_vlp", *words), _seconds(root, *REFERENCE)) for _ in range(3)]
    return min(command for command, _ in pairs) / min(reference for _, reference in pairs)


def _seconds(root: Path, *words: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=root, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def modules(root: Path, *words: str) -> set[str]:
    program = (
        "import io, sys, contextlib\n"
        "from compose_vlp.cli.run import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    assert run({list(words)!r}) == 0\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_costs_little(root: Path) -> None:
    assert cost(root, "--help") < 2.5  # about 1


def test_help_imports_neither_typer_nor_any_command(root: Path) -> None:
    loaded = modules(root, "--help")
    assert "typer" not in loaded
    assert not [name for name in loaded if name.startswith("compose_vlp.cli.commands")]


def test_show_costs_little(root: Path) -> None:
    assert cost(root, "show", "tiny/coca") < 8  # about 4


@pytest.mark.parametrize("words", [("show", "tiny/coca"), ("diff", "coca", "coca_base"), ("components",)])
def test_looking_imports_no_heavy_library(root: Path, words: tuple[str, ...]) -> None:
    assert modules(root, *words).isdisjoint(HEAVY)


def test_checking_imports_no_compiler_of_torch(root: Path) -> None:
    loaded = modules(root, "check", "tiny/albef")
    assert "torch" in loaded
    assert "torch._dynamo" not in loaded, "it takes a second"
