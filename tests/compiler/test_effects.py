"""Effects happen where something wanted calls their component, with every pass and without."""

from __future__ import annotations

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.graph.graph import CheckedBlueprint
from tests.compiler.sameness import Outcome, outcome
from tests.models import TINY

QUEUE = "stages.pretrain={data: pairs, batch: 4, length: 2 steps, losses: [itc, itm, mlm]}"
NO_QUEUE = "stages.pretrain={data: pairs, batch: 4, length: 2 steps, losses: [mlm]}"
LATER = QUEUE.replace("stages.pretrain=", "+stages.later=")
INACTIVE = "losses.itc.weight=0"


def albef(*overrides: str) -> CheckedBlueprint:
    return Blueprint.load("tiny/albef", overrides=[*TINY, *overrides]).check()


def step(blueprint: CheckedBlueprint, *without: str) -> tuple[str, Outcome, torch.Tensor]:
    """The program, what came of it, and the queue before it ran."""
    compiled = compile_stage(blueprint, "pretrain", without=without)
    model = build(blueprint, seed=0)
    model.tokenizers = synthetic_tokenizers(blueprint)
    model.start_teachers(list(model.worlds))
    before = model.student.memory.image.clone()
    result = outcome(model, compiled, synthetic_batch(compiled.plan, 4, "cpu"), Step({"alpha": 0.4}))
    return compiled.source, result, before


@pytest.mark.parametrize("without", [(), ("prune",), tuple(PASSES)])
def test_a_queue_that_a_loss_reads_is_filled(without: tuple[str, ...]) -> None:
    source, result, before = step(albef(QUEUE), *without)
    assert "m.memory(" in source
    entered = (result.state["components.memory.image"] != before).any(1)
    assert int(entered.sum()) == 4, "the rows of the batch, all of whose features the one call needs"
    assert (result.state["components.memory.text"] != before).any()


@pytest.mark.parametrize("without", [(), ("prune",), tuple(PASSES)])
@pytest.mark.parametrize(
    "change", [(NO_QUEUE, LATER), (QUEUE.replace(", itm", ""), INACTIVE)], ids=["left out", "weight 0"]
)
def test_a_queue_whose_losses_a_stage_leaves_out_stays_as_it_is(
    change: tuple[str, ...], without: tuple[str, ...]
) -> None:
    source, result, before = step(albef(*change), *without)
    assert "m.memory(" not in source
    assert torch.equal(result.state["components.memory.image"], before)
    assert int(result.state["components.memory.pointer"]) == 0


def test_running_statistics_of_a_tower_that_no_loss_reads_stand_still() -> None:
    tower = (
        "+components.second={use: timm, model: test_resnet}",
        "+inputs.large={type: image, size: 64}",
        "+outputs.seen=mean(second(large))",
    )
    for without in ((), tuple(PASSES)):
        source, result, _ = step(albef(NO_QUEUE, LATER, *tower), *without)
        assert "m.second(" not in source
        tracked = [value for name, value in result.state.items() if name.endswith("num_batches_tracked")]
        assert tracked
        assert not any(int(value) for value in tracked)
