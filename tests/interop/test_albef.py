"""Each of ALBEF's recorded steps gives the same numbers, with the compiler's passes and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from compose_vlp.compiler.passes import PASSES
from compose_vlp.interop.verify import verify

TASKS = ["pretrain", "retrieval", "ve", "nlvr"]


@pytest.mark.parametrize("without", [(), tuple(PASSES)], ids=["passes on", "passes off"])
@pytest.mark.parametrize("task", TASKS)
def test_the_recorded_step_gives_the_same_numbers(
    oracle: Callable[[str], Path], task: str, without: tuple[str, ...]
) -> None:
    folder = oracle(f"albef/{task}")
    found = verify(folder, "albef", without=without)
    assert found.failures == ()
    held = {
        (file, name)
        for file in ("outputs", "grads", "state_after")
        if (folder / f"{file}.safetensors").is_file()
        for name in load_file(folder / f"{file}.safetensors")
    }
    held |= {("norms", name) for name in json.loads((folder / "grad_norms.json").read_text())}
    assert len(found.rows) == len(held), "all that the folder holds is compared, once"
    assert all("self.key.bias" in row.name or task == "nlvr" for row in found.by_floor)
