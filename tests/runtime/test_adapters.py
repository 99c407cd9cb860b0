"""Training with adapters: runs go on bit for bit, averages follow, and texts are written with what was kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.runtime.state.run_folder import RunFolder
from tests.runtime.test_incremental import differences
from tests.runtime.test_training import STEPS, Watch, train

Load = Callable[..., Blueprint]
LORA = '+adapters.lora={use: lora, match: "**", rank: 4, alpha: 8, dropout: 0.1}'
ONLY = 'stages.*.train=["**.lora"]'


def test_a_run_with_adapters_that_was_stopped_goes_on_bit_for_bit(small_coca: Load, tmp_path: Path) -> None:
    average = ("+teachers.slow={decay: 0.5, update: after}", "+outputs.averaged=slow.image_embedding")
    whole, before, after = Watch(), Watch(stop_after=4), Watch()
    load = lambda: small_coca(*STEPS, LORA, ONLY, *average)  # noqa: E731
    uninterrupted = train(load(), tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train(load(), tmp_path / "stopped", before)
    resumed = train(load(), tmp_path / "stopped", after, resume=True)
    assert {**before.totals, **after.totals} == whole.totals and 3 in after.totals
    state, again = uninterrupted.asker.model.state_dict(), resumed.asker.model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())
    assert RunFolder.open(tmp_path / "stopped").info.status == "FINISHED"
    fresh = build(uninterrupted.blueprint, seed=1).state_dict()
    averaged = {name for name in state if name.startswith("teachers.slow.") and name.endswith(".lora.up")}
    assert averaged and all(state[name].any() for name in averaged), "the average has followed"
    base = [name for name in state if ".lora." not in name and name.endswith("weight")]
    assert all(torch.equal(state[name], fresh[name]) for name in base), "and what is frozen is the same in both"


def test_a_text_is_written_alike_with_keys_kept_and_without(small_coca: Load) -> None:
    assert max(differences(small_coca(LORA).check(), "caption")) < 1e-9
