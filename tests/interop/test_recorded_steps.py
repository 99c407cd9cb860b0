"""Each recorded step of ALBEF, BLIP, BEiT-3 and VLMo gives the same numbers, with the compiler's passes and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.passes import PASSES
from compose_vlp.interop.format import Format, format_named
from compose_vlp.interop.oracle import read_oracle
from compose_vlp.interop.verify import checked, verify

pytestmark = pytest.mark.usefixtures("small_chunks")

CLASSES = {
    "albef": ("pretrain", "retrieval", "ve", "vqa", "nlvr"),
    "blip": ("pretrain", "retrieval", "captioning", "vqa", "nlvr", "itm"),
    "beit3": ("retrieval", "vqa", "nlvr2", "classification", "captioning"),
    "vlmo": ("pretrain", "textmlm", "retrieval", "vqa", "nlvr2"),
}
STEPS = [f"{paper}/{task}" for paper, tasks in CLASSES.items() for task in tasks]
SWITCHES = [(), *((name,) for name in PASSES), tuple(PASSES)]
"""Passes that are left out: none, each, all."""


def programs(folder: Path, form: Format) -> list[tuple[str, ...]]:
    """The switches that give different programs of this step; those of one text give the same numbers."""
    blueprint = checked(*form.settings(read_oracle(folder, form.losses)))
    switch_of: dict[tuple[str, ...], tuple[str, ...]] = {}
    for without in SWITCHES:
        sources = tuple(compile_stage(blueprint, stage, without=without).source for stage in blueprint.stages)
        switch_of.setdefault(sources, without)
    return list(switch_of.values())


@pytest.mark.parametrize("step", STEPS)
def test_the_recorded_step_gives_the_same_numbers(oracle: Callable[[str], Path], step: str) -> None:
    folder, paper = oracle(step), step.partition("/")[0]
    for without in programs(folder, format_named(paper)):
        compared = verify(folder, paper, without=without)
        assert compared.failures == (), f"without {without}"
        assert len(compared.rows) == recorded_in(folder), "all that the folder holds is compared, once"
        if step != "albef/nlvr":  # in whose upper layers hardly any gradient is left
            assert all(
                ".key.bias" in row.name or (".k_proj." in row.name and row.name.endswith(".bias"))
                for row in compared.by_floor
            ), f"without {without}"


def recorded_in(folder: Path) -> int:
    """How many tensors and norms a folder holds of its step's results."""
    files = [folder / f"{name}.safetensors" for name in ("outputs", "grads", "state_after")]
    norms = folder / "grad_norms.json"
    counts = [len(load_file(file)) for file in files if file.is_file()]
    return sum(counts) + (len(json.loads(norms.read_text())) if norms.is_file() else 0)
