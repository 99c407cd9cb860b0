"""Batches that ALBEF and BLIP cannot learn from, or can although they look as if not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.teachers import taught_by
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.verify import checked
from compose_vlp.runtime.training.trainer import TrainOptions
from compose_vlp.values import Image, Text
from tests.models import TOWERS

PAPERS = ("tiny/albef", "tiny/blip")
FRAME, WORDS = 6, 40
SMALL = (*(setting for setting in TOWERS if "vocab_size" not in setting), "components.memory.size=8")
BATCH = "stages.pretrain.batch=4"
DATA = ("data.pairs.count=20", "data.pairs.size=16", "components.bert.vocab_size=90")


def train(paper: str, out: Path, *overrides: str) -> None:
    short = (*SMALL, *DATA, "stages.pretrain.length=1 steps", *overrides)
    Blueprint.load(paper, overrides=list(short)).train(out=out, options=TrainOptions(device="cpu"), track=False)


@pytest.mark.training
def test_a_batch_that_does_not_divide_the_queue_is_told_with_sizes_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a batch of 6 does not divide the queue's size 8") as caught:
        train("tiny/albef", tmp_path / "run", "stages.pretrain.batch=6")
    assert caught.value.problems[0].hints == ("batch: 4", "size: 6")
    assert not (tmp_path / "run").exists()


@pytest.mark.training
def test_a_batch_of_one_is_told_to_hold_no_wrong_pair(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has one record a step, and `hard` compares it with others") as caught:
        train("tiny/blip", tmp_path / "run", "stages.pretrain.batch=1")
    assert caught.value.problems[0].hints == ("`batch: 2` or more",)


@pytest.fixture(params=PAPERS)
def model(request: pytest.FixtureRequest) -> tuple[CheckedBlueprint, Model]:
    tokens = "tokens: ['[DEC]', '[ENC]'], end: '2'" if "blip" in request.param else "mask: '3'"
    ids = f"components.bert={{use: ids, vocab_size: {WORDS}, begin: '1', pad: '0', {tokens}}}"
    blueprint = checked(request.param, [*SMALL, BATCH, ids, f"inputs.caption.max_length={FRAME}"])
    model = build(blueprint, seed=0)
    words = blueprint.components["bert"]
    model.tokenizers = {"bert": words.kind.implementation(words.config)}
    return blueprint, model


@pytest.mark.parametrize("lengths", [[0, FRAME, 0, 3], [0, 0, 0, 0]], ids=["some", "all"])
def test_texts_of_nothing_but_padding_leave_losses_and_gradients_finite(
    model: tuple[CheckedBlueprint, Model], lengths: list[int]
) -> None:
    blueprint, root = model
    known = torch.arange(FRAME) < torch.tensor(lengths)[:, None]
    text = Text(torch.randint(4, WORDS, (4, FRAME)) * known, torch.tensor(lengths), FRAME)
    compiled = compile_stage(blueprint, "pretrain")
    root.start_teachers(taught_by(compiled.plan))
    losses = root(compiled.run, {"image": Image(torch.randn(4, 3, 16, 16)), "caption": text}, Step({"alpha": 0.4}))
    torch.stack([loss.value for loss in losses.values()]).sum().backward()
    root.commit()
    assert all(loss.value.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in root.components.parameters() if p.grad is not None)
    assert root.student.memory.text.isfinite().all()
