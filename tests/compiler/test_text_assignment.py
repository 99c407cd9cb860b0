"""Text assignment on a small ALBEF: the loss is that of pairs put together by hand, with passes and without."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.values import Image, Index, Number, Text
from tests.models import TOWERS

QUIET = [f"components.{name}.{noise}=0" for name in ("text", "fusion") for noise in ("dropout", "attention_dropout")]
ROWS = 5


def test_the_model_learns_from_recorded_pairs_what_they_give_by_hand() -> None:
    blueprint = Blueprint.load("tiny/albef", "tiny/tasks/text_assignment", overrides=[*TOWERS, *QUIET]).check()
    model = build(blueprint, seed=0)
    torch.manual_seed(0)
    size = blueprint.inputs["image"].size  # type: ignore[union-attr]
    pixels = torch.randn(ROWS, 3, size, size)
    ids, lengths = torch.randint(5, 100, (ROWS, 7)), torch.tensor([7, 4, 7, 5, 6])
    text = Text(ids.masked_fill(torch.arange(7) >= lengths[:, None], 0), lengths, 28)
    left, right = torch.tensor([0, 3, 1, 3, 2]), torch.tensor([4, 1, 0, 2, 4])
    answer = torch.tensor([0, 1, 2, 0, 1])
    pair = SimpleNamespace(left=Index(left), right=Index(right), answer=Number(answer))
    student = model.student
    with torch.no_grad():
        looked = [student.vision(Image(pixels[rows])) for rows in (left, right)]
        joint = student.fusion(student.text(text), looked)
        expected = F.cross_entropy(student.assigner(joint.cls).scores, answer)
    batch = {"image": Image(pixels), "caption": text}
    for without in ((), tuple(PASSES)):
        program = compile_stage(blueprint, "assign", without=without).run
        actual = model(program, batch, Step({}, choices={"pair": pair}))["assignment"].value
        assert float(actual.detach()) == pytest.approx(float(expected), rel=1e-5)
    actual.backward()
    assert all(p.grad is None for p in student.image_proj.parameters()), "pictures are only compared, as officially"
    assert all(p.grad is not None for p in student.vision.parameters())
