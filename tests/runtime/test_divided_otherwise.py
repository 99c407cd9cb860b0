"""What divides a model where it is not as the papers are: maps with adapters, and weights that are rounded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compose_vlp.blueprint.sections import Distribute
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.runtime.memory import recompute_of_stage
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.training.sharding import Shards, whole
from tests.runtime import test_engines as engines
from tests.support import assert_near, silence, spawn
from tests.tiny_papers import tiny_paper

pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(300)]
ROWS = 8
LORA = "+adapters.lora={use: lora, match: ['**.self_attention', text_proj], rank: 2, dropout: %s}"


def learnt(rank: int, world: int, dropout: str) -> dict[str, Any]:
    """Five steps of CoCa whose maps have adapters and are trained, too: in one process, or divided among two."""
    before = engines.EVERY_ROW
    engines.compiled.cache_clear()
    engines.EVERY_ROW = {"CoCa": (LORA % dropout,)}
    try:
        return engines.Run("CoCa", engines.Way("fsdp" if world > 1 else "ddp", world), rank).learn()
    finally:
        engines.compiled.cache_clear()
        engines.EVERY_ROW = before


@pytest.mark.parametrize("dropout", ["0", "0.1"])
def test_maps_with_adapters_learn_divided_what_they_learn_in_one_process(dropout: str) -> None:
    """All noise is silenced; a map whose adapter may draw some refuses to be read past it, which dividing is not."""
    alone, divided = learnt(0, 1, dropout), spawn(learnt, 2, dropout)[0]
    assert any(".lora.up" in name for name in alone["state"])
    for step, losses in enumerate(alone["losses"]):
        assert divided["losses"][step] == pytest.approx(losses, rel=1e-6), step
    for name, array in alone["state"].items():
        assert_near(torch.from_numpy(divided["state"][name]), torch.from_numpy(array), 1e-6, floor=1e-7, what=name)


def rounded(rank: int, world: int) -> dict[str, float]:
    """The captioning loss of one step of CoCa in bfloat16 on equal rows, in one process or divided among two."""
    blueprint = tiny_paper("CoCa", batch=4).check()
    compiled = compile_stage(blueprint, "pretrain")
    model = build(blueprint, seed=0)
    silence(model)
    model.tokenizers = synthetic_tokenizers(blueprint)
    if world > 1:
        Shards(model, Distribute(use="fsdp"), Processes(rank, world, torch.device("cpu")), "bf16")
    batch, step = synthetic_batch(compiled.plan, 4, "cpu"), Step(blueprint.constants_and_starts())
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(compiled.run, batch, step)["captioning"].value.mean()
        loss.backward()
    slope = model.student.lm_head.weight.grad
    return {"loss": float(loss), "slope": float(whole(slope).norm())}


def test_a_divided_step_in_bfloat16_is_that_of_one_process() -> None:
    for divided in spawn(rounded, 2):
        assert divided == pytest.approx(rounded(0, 1), rel=1e-3)


def recomputed(rank: int, paper: str) -> tuple[str, ...]:
    """What the first of two processes chooses to run again, while the second does not measure."""
    blueprint = tiny_paper(paper, "recompute=1 MB", batch=ROWS).check()
    return recompute_of_stage(blueprint, "pretrain", processes=2).names if rank == 0 else ()


@pytest.mark.parametrize("paper", ["ALBEF", "CoCa"])
def test_what_fits_is_measured_by_one_process_while_the_others_wait(paper: str) -> None:
    """The queue and what is gathered ask the others for nothing."""
    chosen = spawn(recomputed, paper, patience_s=120)[0]
    assert "vision" in chosen and chosen == recomputed(0, paper)
