"""Numbers that are none: the run stops, keeps what it needs to be looked at, and names where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model
from compose_vlp.errors import UserError
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training import stage_run
from compose_vlp.runtime.training.not_finite import replay
from tests.runtime.test_training import STEPS, Watch, train

Load = Callable[..., Blueprint]
NAN = float("nan")


def fails(blueprint: Blueprint, out: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        train(blueprint, out, Watch())
    assert RunFolder.open(out).info.status == "FAILED"
    return caught.value


def hints(error: UserError) -> str:
    return "\n".join(error.problems[0].hints)


def spoil_after(monkeypatch: pytest.MonkeyPatch, steps: int, spoil: Callable[[Model, dict[str, Any]], None]) -> None:
    """Spoil the model or the batch of the step after so many."""
    plain = stage_run.StageRun._batches

    def batches(self: stage_run.StageRun) -> Iterator[dict[str, Any]]:
        for number, batch in enumerate(plain(self)):
            if number == steps:
                with torch.no_grad():
                    spoil(self.model, batch)
            yield batch

    monkeypatch.setattr(stage_run.StageRun, "_batches", batches)


def test_weights_that_explode_are_named_by_the_first_value(small_coca: Load, tmp_path: Path) -> None:
    error = fails(small_coca(*STEPS, "optimizer.lr=1e30", "~optimizer.clip"), tmp_path / "run")
    assert "stage pretrain, step 1: " in str(error)
    assert "first not finite: `visual.vision`, computed by `vision`" in hints(error)


def test_an_input_is_named(small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_after(monkeypatch, 2, lambda _, batch: batch["image"].pixels[0].fill_(NAN))
    error = fails(small_coca(*STEPS), tmp_path / "run")
    assert "step 2: " in str(error)
    assert "first not finite: the input `image`" in hints(error)


def test_a_parameter_is_named(small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_after(monkeypatch, 1, lambda model, _: model.student.text_proj.map.weight[0, 0].fill_(NAN))
    error = fails(small_coca(*STEPS), tmp_path / "run")
    assert "the parameter `text_proj.map.weight`" in hints(error)


def test_the_first_value_is_named_with_its_place(
    small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(model: Model, _: Any) -> None:
        model.student.text_proj.map.weight.fill_(1e38)

    spoil_after(monkeypatch, 3, too_large)
    blueprint = small_coca(*STEPS, "components.unimodal.dropout=0.2", "stages.pretrain.accumulate=2")
    error = fails(blueprint, tmp_path / "run")
    assert "step 3: contrastive = nan" in str(error)
    assert "computed by `text_proj`" in hints(error)
    span = error.problems[0].span
    assert span is not None and Path(span.file).name == "coca.yaml"
    saved = next((tmp_path / "run" / "reports").iterdir())
    assert saved.name == "not-finite-pretrain-00000003-0" and str(saved) in hints(error)
    monkeypatch.undo()
    again = replay(tmp_path / "run", blueprint.check(), saved)
    assert again is not None and "computed by `text_proj`" in again


def test_a_gradient_is_named_where_all_losses_are_finite(
    small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_backward(model: Model, _: Any) -> None:
        model.student.text_proj.map.weight.register_hook(lambda gradient: gradient * NAN)

    spoil_after(monkeypatch, 1, break_backward)
    error = fails(small_coca(*STEPS), tmp_path / "run")
    assert "step 1: gradient norm = nan" in str(error)
    assert "the gradient of `text_proj.map.weight`" in hints(error)
