from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from compose_vlp.runtime.state import checkpoint, generators


def draw() -> tuple[float, ...]:
    numpy_draws = np.random.rand(2).tolist() + np.random.randn(1).tolist()  # noqa: NPY002
    return (random.random(), random.gauss(0, 1), *numpy_draws, *torch.randn(3).tolist(), *torch.rand(2).tolist())


def test_every_generator_goes_on_where_it_was_captured(tmp_path: Path) -> None:
    draw()
    random.gauss(0, 1)  # leaves a second number waiting inside the generator
    np.random.randn(1)  # noqa: NPY002
    checkpoint.save(tmp_path / "one", {"generators": generators.capture()}, step=1)
    expected = draw()
    draw()
    generators.restore(checkpoint.load(tmp_path / "one")["generators"])
    assert draw() == expected


def test_a_generator_of_ones_own_goes_on_too(tmp_path: Path) -> None:
    torch_generator = torch.Generator().manual_seed(3)
    numpy_generator = np.random.default_rng(3)
    torch.randn(5, generator=torch_generator)
    numpy_generator.random(5)
    state = {"data": {"torch": torch_generator.get_state(), "numpy": numpy_generator.bit_generator.state}}
    checkpoint.save(tmp_path / "one", state, step=1)
    expected = (torch.randn(4, generator=torch_generator).tolist(), numpy_generator.random(4).tolist())
    actual = checkpoint.load(tmp_path / "one")["data"]
    torch_generator.set_state(actual["torch"])
    numpy_generator.bit_generator.state = actual["numpy"]
    assert (torch.randn(4, generator=torch_generator).tolist(), numpy_generator.random(4).tolist()) == expected
