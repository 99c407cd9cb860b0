"""Sweeps of models of a few thousand weights, trained in this process unless a test says otherwise."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.sweep.document import Sweep
from compose_vlp.sweep.reading import read_sweep_file

BASE = (
    "tiny/coca",
    "data.pairs.count=24",
    "data.pairs.size=16",
    "stages.pretrain.batch=6",
    "inputs.image.size=16",
    "components.vision.width=32",
    "components.*.depth=1",
)
"""A base that trains in a second."""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sweep]:
    """`written("vary: {...}", "seeds: 2")` reads a sweep over the small base, from a file in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def read(*lines: str, base: str = f"base: [{', '.join(repr(word) for word in BASE)}]") -> Sweep:
        file = tmp_path / "question.yaml"
        file.write_text("\n".join(["sweep: question", base, *lines]) + "\n")
        return read_sweep_file(file, "question.yaml")

    return read
