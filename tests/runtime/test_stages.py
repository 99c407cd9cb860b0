"""Stages that change things: settings of their own, other sizes, less precise arithmetic."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.errors import UserError
from compose_vlp.run import load
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.stage_run import choose_workers
from compose_vlp.runtime.training.summary import Summary
from tests.runtime.test_training import STEPS, Watch, train

Load = Callable[..., Blueprint]
LARGER = (
    "+stages.larger={data: pairs, batch: 5, length: 2 steps, losses: [contrastive, captioning], "
    "set: {inputs.image.size: 32, inputs.caption.max_length: 16}}"
)
SECOND = (
    "stages.pretrain.length=2 steps",
    *STEPS[1:],
    LARGER,
)


def test_a_stage_on_larger_pictures_and_longer_texts(small_coca: Load, tmp_path: Path) -> None:
    notes = Watch()
    run = train(small_coca(*SECOND), tmp_path / "run", notes)
    vision, texts = (run.asker.model.components.get_submodule(name) for name in ("vision", "unimodal"))
    assert vision.positions.shape[0] == 16 and texts.positions.shape[0] == 17, "the model is the last stage's"
    assert [note for note in notes.notes if "resized" in note] == [
        "stage larger: components.vision.positions [16, 32] resized",
        "stage larger: components.unimodal.positions [17, 32] resized",
    ]
    assert load(tmp_path / "run").caption([_picture(tmp_path)])


def test_positions_are_resized_and_all_other_weights_kept(small_coca: Load) -> None:
    from compose_vlp.compiler.model import build
    from compose_vlp.runtime.state.fitting import fit

    checked = small_coca(*SECOND).check()
    model = build(checked, seed=1)
    state = torch.get_rng_state()
    larger, notes = fit(model, checked, checked.of_stage("larger"), 0)
    assert torch.equal(torch.get_rng_state(), state) and len(notes) == 2
    before, after = model.state_dict(), larger.state_dict()
    for name, tensor in before.items():
        if "positions" not in name:
            assert torch.equal(tensor, after[name]), name
    grid = after["components.vision.positions"].reshape(4, 4, -1)
    corners = before["components.vision.positions"].reshape(2, 2, -1)
    assert (grid[0, 0] - corners[0, 0]).norm() < (grid[0, 0] - corners[1, 1]).norm()
    text = before["components.unimodal.positions"]
    longer = after["components.unimodal.positions"]
    assert torch.equal(longer[:12], text[:12]) and torch.equal(longer[-1], text[-1]), "words, and the CLS behind them"
    assert fit(model, checked, checked, 0) == (model, [])


def test_a_run_goes_on_in_a_stage_of_another_size_bit_for_bit(small_coca: Load, tmp_path: Path) -> None:
    whole, after = Watch(), Watch()
    train(small_coca(*SECOND), tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train(small_coca(*SECOND), tmp_path / "run", Stop(stages=2))
    train(small_coca(*SECOND), tmp_path / "run", after, resume=True)
    assert after.totals == whole.totals, "the second stage's steps, numbered from 0, come last in both"


def test_a_stage_of_another_size_is_measured_and_tried_at_that_size(small_coca: Load) -> None:
    from compose_vlp.compiler.materialise import materialise

    blueprint = small_coca(*SECOND)
    larger, small = (blueprint.report(stage, batch=2).parameters["total"] for stage in ("larger", "pretrain"))
    assert larger > small
    assert materialise(blueprint.check(), "larger", torch.device("cpu")).losses.keys() == {"contrastive", "captioning"}


class Stop(Watch):
    """Stops as the kill of a process does where a stage begins."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        self.left = stages

    def stage(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_bf16_keeps_weights_in_float32_and_comes_close(small_coca: Load, tmp_path: Path) -> None:
    exact, rounded, cut = Watch(), Watch(), Watch()
    train(small_coca(*STEPS), tmp_path / "exact", exact)
    run = train(small_coca(*STEPS, "stages.pretrain.precision=bf16"), tmp_path / "rounded", rounded)
    train(small_coca(*STEPS, "precision=bf16", "stages.pretrain.accumulate=2"), tmp_path / "cut", cut)
    assert {tensor.dtype for tensor in run.asker.model.state_dict().values()} == {torch.float32}
    assert rounded.totals != exact.totals
    assert rounded.totals == pytest.approx(exact.totals, rel=0.02)
    assert cut.totals == pytest.approx(exact.totals, rel=0.02)


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(
    small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, written = checkpoint.save_file, list[Path]()

    def save_file(tensors: Any, path: Path, metadata: Any) -> None:
        written.append(path)
        if len(written) > 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    before, after, whole = Watch(), Watch(), Watch()
    with pytest.raises(UserError, match=r"cannot save checkpoint .*step-00000006: No space left on device") as caught:
        train(small_coca(*STEPS), tmp_path / "run", before)
    assert "step-00000003" in caught.value.problems[0].hints[0]
    assert RunFolder.open(tmp_path / "run").info.status == "FAILED"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    monkeypatch.undo()
    train(small_coca(*STEPS), tmp_path / "run", after, resume=True)
    train(small_coca(*STEPS), tmp_path / "whole", whole)
    assert {**before.totals, **after.totals} == whole.totals


def test_a_checkpoint_of_another_blueprint_is_refused(small_coca: Load, tmp_path: Path) -> None:
    train(small_coca(*STEPS), tmp_path / "run", Watch())
    with pytest.raises(UserError, match="is of another blueprint") as caught:
        train(small_coca(*STEPS, "components.image_proj.out=20", "components.text_proj.out=20"), tmp_path / "run",
              Watch(), resume=True)  # fmt: skip
    assert "image_proj.out: 24 in the checkpoint, 20 here" in caught.value.problems[0].hints


def test_two_runs_in_one_folder_do_not_disturb_each_other(small_coca: Load, tmp_path: Path) -> None:
    class Second(Watch):
        def step(self, report: Any) -> None:
            super().step(report)
            if report.step == 1:
                for resume in (False, True):
                    with pytest.raises(UserError, match="another process is working on the run in"):
                        train(small_coca(*STEPS), tmp_path / "run", Watch(), resume=resume)

    first = Second()
    train(small_coca(*STEPS), tmp_path / "run", first)
    assert list(first.totals) == list(range(8))
    assert RunFolder.open(tmp_path / "run").info.status == "FINISHED"


def test_the_summary_says_time_waiting_and_what_was_left_out(small_coca: Load, tmp_path: Path) -> None:
    class Sums(Watch):
        def end(self, summary: Summary) -> None:
            self.summary = summary

    sums = Sums()
    train(small_coca(*STEPS), tmp_path / "run", sums)
    assert sums.summary.steps == 8 and 0 < sums.summary.waiting_share < 1
    assert RunFolder.open(tmp_path / "run").info.extra["stages"]["pretrain"] == sums.summary.as_json()
    notes = Summary("pretrain", steps=10, seconds=61.0, waiting=0.6, first_wait=1.0, skipped=3).text()
    assert notes == "stage pretrain: 10 steps in 1 min 1 s, 1.0% of it waiting for input, 3 broken records left out"


def test_readers_are_started_where_pictures_are_decoded(small_coca: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    from compose_vlp.runtime.sources import declared_source

    drawn = declared_source(small_coca(*STEPS).check(), "pairs")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert choose_workers(None, drawn) == 0 and choose_workers(3, drawn) == 3
    drawn.decodes = True
    assert choose_workers(None, drawn) == 2 and choose_workers(0, drawn) == 0
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert choose_workers(None, drawn) == 1


def _picture(folder: Path) -> str:
    from PIL import Image

    Image.new("RGB", (20, 20), "red").save(folder / "red.png")
    return str(folder / "red.png")


def test_a_stage_too_short_for_its_schedules_says_so_where_its_data_is_known(small_coca: Load, tmp_path: Path) -> None:
    watch = Watch()
    schedule = "params.lr={cosine: [1e-3, 1e-5], warmup: 2 epochs}"
    train(small_coca("stages.pretrain.length=2 steps", *STEPS[1:], schedule), tmp_path / "run", watch)
    (note,) = [note for note in watch.notes if "never reaches" in note]
    assert note.startswith(
        "stage `pretrain` has 2 steps, and the learning rate warms up for 2 epochs: it never reaches"
    )
