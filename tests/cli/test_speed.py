"""What looking costs: no torch, and no waiting.

Seconds are those of the processor: on an idle machine these are the seconds that one waits, and others' work on the
machine does not count.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "transformers", "mlflow", "accelerate", "scipy", "PIL", "numpy")


def seconds(root: Path, *words: str) -> float:
    """The quickest of three runs."""
    return min(_once(root, *words) for _ in range(3))


def _once(root: Path, *words: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "compose_vlp", *words], cwd=root, check=True, stdout=subprocess.DEVNULL)
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


def test_help_takes_under_three_tenths_of_a_second(root: Path) -> None:
    assert seconds(root, "--help") < 0.3


def test_help_imports_neither_typer_nor_any_command(root: Path) -> None:
    loaded = modules(root, "--help")
    assert "typer" not in loaded
    assert not [name for name in loaded if name.startswith("compose_vlp.cli.commands")]


def test_show_takes_under_a_second(root: Path) -> None:
    assert seconds(root, "show", "tiny/coca") < 1.0


@pytest.mark.parametrize("words", [("show", "tiny/coca"), ("diff", "coca", "coca_base"), ("components",)])
def test_looking_imports_no_heavy_library(root: Path, words: tuple[str, ...]) -> None:
    assert modules(root, *words).isdisjoint(HEAVY)
