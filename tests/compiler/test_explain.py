"""What `build --explain` says of passes is what the programs before and after them are."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.building import explain
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.report import measure_flops
from compose_vlp.errors import UserError
from tests.models import TINY


def test_the_first_is_the_blueprints_program_and_the_last_what_runs() -> None:
    checked = Blueprint.load("tiny/albef", overrides=TINY).check()
    effects = explain(checked, batch=4)
    assert [effect.name for effect in effects] == list(PASSES)
    assert all(a.after == b.before for a, b in pairwise(effects))
    meta = build(checked, "meta")
    for measured, without in ((effects[0].before, tuple(PASSES)), (effects[-1].after, ())):
        program = compile_stage(checked, "pretrain", without=without)
        assert measured.calls == program.plan.counted()
        assert (measured.flops, measured.kept_bytes) == measure_flops(checked, meta, program, 4)
    by_name = {effect.name: effect for effect in effects}
    for name in ("rows", "last_layer", "batch"):
        effect = by_name[name]
        assert effect.note and effect.before.flops and effect.after.flops
        assert effect.after.flops < effect.before.flops, name


def test_what_is_counted_from_shapes_is_counted_of_a_real_step_too() -> None:
    checked = Blueprint.load("tiny/coca").check()
    after, model = explain(checked, batch=4)[-1].after, build(checked, seed=0)
    flops, kept_bytes = measure_flops(checked, model, compile_stage(checked, "pretrain"), 4)
    assert flops == after.flops
    assert kept_bytes == pytest.approx(after.kept_bytes, rel=0.1), "each device's kernels keep a little of their own"


def test_a_pass_that_is_left_out_is_not_told_of() -> None:
    checked = Blueprint.load("tiny/coca").check()
    names = [effect.name for effect in explain(checked, batch=2, without=("rows", "batch"))]
    assert names == [name for name in PASSES if name not in ("rows", "batch")]


def test_steps_are_timed_where_that_is_asked_for() -> None:
    checked = Blueprint.load("tiny/coca").check()
    effects = explain(checked, batch=2, device=torch.device("cpu"))
    assert all(effect.before.seconds and effect.after.seconds for effect in effects)
    assert effects[0].before.seconds != effects[-1].after.seconds


def test_what_does_not_fit_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose_vlp.compiler.explain.free_memory", lambda _: 20_000_000)
    with pytest.raises(UserError, match=r"cannot be (timed|made)"):
        explain(Blueprint.load("tiny/coca").check(), batch=64, device=torch.device("cpu"))
