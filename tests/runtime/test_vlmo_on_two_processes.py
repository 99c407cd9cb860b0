"""VLMo on two processes has the gradients of one that has the whole batch: contrast, and wrong partners from both."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step
from compose_vlp.interop.verify import checked
from compose_vlp.runtime.processes import ALONE, Processes
from compose_vlp.runtime.training.engine import Engine, Replicas
from compose_vlp.runtime.training.gradients import InOneGo
from tests.runtime.test_albef_on_two_processes import LENGTH, ROWS, WORDS, built, recorded
from tests.support import assert_near, spawn

WEIGHTS = {"itc": 0.5, "itc_vl": 0.5, "itm": 1.0, "mlm": 0.25}
SMALL = [
    "inputs.image.size=16", f"inputs.caption.max_length={LENGTH}", "components.patches_of.patch=8",
    *(f"components.{name}.width=16" for name in ("patches_of", "words_of")), "components.words_of.dropout=0",
    *(f"components.{name}.{key}" for name in ("lower", "upper")
      for key in ("heads=2", "drop_path=0", "positions.frame=12")),
    "components.lower.depth=2", "components.lower.layers_after=2", "stages.language.set={}",
    *(f"components.{name}.out=16" for name in ("image_proj", "text_proj", "image_vl", "text_vl")),
    f"components.bert={{use: ids, vocab_size: {WORDS}, begin: '1', pad: '0', mask: '3'}}",
    "components.masker.whole_words=false", f"stages.pairs.batch={ROWS}",
]  # fmt: skip


def gradients(rank: int, world: int) -> dict[str, Any]:
    """The losses and all gradients of one step, averaged over the processes."""
    blueprint = checked("vlmo_base", SMALL)
    model = built(blueprint)
    with torch.no_grad():  # biases and experts that are all alike would hide what goes wrong
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.05)
    processes = Processes(rank, world, torch.device("cpu")) if world > 1 else ALONE
    program = compile_stage(blueprint, "pairs", trainable=lambda _: True).run
    batch = next(recorded(rank, world))
    step = Step(blueprint.constants_and_starts(), choices=batch["choices"])
    engine = Replicas(model.train()) if world > 1 else Engine(model.train())
    losses = InOneGo(engine, program, processes, nullcontext)(batch["inputs"], WEIGHTS, step)
    found = {name: p.grad.tolist() for name, p in model.named_parameters() if p.grad is not None}
    return {"losses": dict(losses.values), "gradients": found}


def in_each(rank: int) -> dict[str, Any]:
    return gradients(rank, 2)


@pytest.mark.slow
@pytest.mark.training
def test_two_processes_have_the_gradients_of_the_whole_batch() -> None:
    alone = gradients(0, 1)
    assert len(alone["gradients"]) > 60 and set(alone["losses"]) == set(WEIGHTS)
    for process in spawn(in_each):
        assert process["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert process["gradients"].keys() == alone["gradients"].keys()
        for name, gradient in alone["gradients"].items():
            assert_near(torch.tensor(process["gradients"][name]), torch.tensor(gradient), floor=1e-5, what=name)
