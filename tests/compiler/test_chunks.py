"""Scores over a vocabulary in chunks of rows: which heads leave them to the loss, and what that saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_plan, compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.report import measure_flops
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError
from compose_vlp.plugins import load_plugin
from tests.compiler.sameness import assert_same, outcome
from tests.models import TINY
from tests.support import in_float64


def source(name: str, *overrides: str, without: tuple[str, ...] = ()) -> str:
    return compile_stage(Blueprint.load(name, overrides=overrides).check(), "pretrain", without=without).source


def test_heads_of_chosen_positions_leave_their_scores_to_the_loss_teachers_too() -> None:
    program = source("tiny/albef", *TINY)
    assert program.count("scored=False") == 2, "the student's head for masked words, and the teacher's"
    assert "scored=False" not in source("tiny/albef", *TINY, without=("chunks",))
    assert "scored=False" not in source("tiny/albef", *TINY, without=("rows",)), "all positions are scored at once"


def test_scores_that_an_output_gives_are_made() -> None:
    checked = Blueprint.load("tiny/coca").check()
    plan = {"logits": checked.outputs["caption"].ref} if "caption" in checked.outputs else {}
    assert plan and "scored=False" not in compile_plan(checked, "seen", plan).source


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("frozen", [(), ("lm_head",), ("unimodal",)])
def test_losses_and_gradients_stay_with_what_is_frozen(frozen: tuple[str, ...]) -> None:
    checked = Blueprint.load("tiny/coca", overrides=["components.multimodal.dropout=0"]).check()
    model = build(checked, seed=3).double()
    model.tokenizers = synthetic_tokenizers(checked)
    for name in frozen:
        getattr(model.student, name).requires_grad_(False)
    outcomes = []
    for without in ((), ("chunks",)):
        compiled = compile_stage(checked, "pretrain", trainable=lambda name: name not in frozen, without=without)
        batch = in_float64(synthetic_batch(compiled.plan, 3, "cpu"))
        outcomes.append(outcome(model, compiled, batch, Step(checked.constants_and_starts())))
    assert_same(*outcomes, str(frozen))


def test_less_is_kept_for_the_backward_and_no_product_is_made_twice() -> None:
    checked = Blueprint.load("tiny/coca").check()
    model, records, work, kept_bytes = build(checked, "meta"), 256, list[int](), list[int]()
    for without in ((), ("chunks",)):
        total, kept = measure_flops(checked, model, compile_stage(checked, "pretrain", without=without), records)
        work.append(total)
        kept_bytes.append(kept)
    words, (classes, width) = records * (checked.inputs["caption"].max_length - 1), model.student.lm_head.weight.shape
    assert work[0] == pytest.approx(work[1], rel=1e-6)
    assert kept_bytes[0] < kept_bytes[1] - 0.9 * 4 * classes * (words - width), (
        "no row of scores, and the table's slope"
    )


HEAD = """
from typing import Annotated
from torch import nn
from compose_vlp.registry import EACH, OnText, Settings, component, inferred
from compose_vlp.values import Logits, Sequence
from compose_vlp.values.unscored import UnscoredLogits

@component("my_head", rows="independent", state="none", draws="none", selects=True, chunks=True)
class MyHead(nn.Module):
    class Config(Settings):
        width: int = inferred()
        vocab_size: int = inferred("x.vocab_size")

    def __init__(self, config):
        super().__init__()
        self.map = nn.Linear(config.width, config.vocab_size)

    def forward(
        self, x: Annotated[Sequence, "rows tokens width", EACH], *, at=None{argument}
    ) -> Annotated[Logits, "rows tokens vocab_size", OnText(required=True)]:
        text = x.parts[0].text
        features = x.features[:, : text.ids.shape[1]]
        features = features if at is None else features.flatten(0, 1)[at]
        {wrong}
        return Logits(self.map(features), text, at)
"""


def test_a_head_that_promises_it_takes_the_argument(tmp_path: Path) -> None:
    (tmp_path / "head.py").write_text(HEAD.format(argument="", wrong=""))
    with pytest.raises(UserError, match="the argument `scored` of forward goes with chunks=True"):
        load_plugin(tmp_path / "head.py")


def test_a_head_that_leaves_another_product_is_caught(tmp_path: Path) -> None:
    wrong = "if not scored: return UnscoredLogits(features, self.map.weight, None, text, at)"
    (tmp_path / "head.py").write_text(HEAD.format(argument=", scored=True", wrong=wrong))
    load_plugin(tmp_path / "head.py")
    checked = Blueprint.load("tiny/coca", overrides=["components.lm_head={use: my_head}"]).check()
    with pytest.raises(UserError, match="chunks: what `scored=False` leaves gives other scores"):
        compile_stage(checked, "pretrain")
