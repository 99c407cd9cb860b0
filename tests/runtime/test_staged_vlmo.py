"""tiny/vlmo, smaller still: its stages train what they are to, go on where they stopped, and begin at any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.run import Run
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.support import spawn

STAGES = ("codes", "vision", "language", "pairs")
SMALL = (
    "inputs.image.size=16", "components.patches_of={width: 16, patch: 4, stem: patch, stem_depth: 0}",
    "components.words_of.width=16", "components.lower={depth: 1, heads: 2}", "components.upper.heads=2",
    "components.*_proj.out=8", "components.*_vl.out=8", "components.bert.vocab_size=300", "components.hide.patch=4",
    "components.code_patches={width: 16, patch: 4, stem: patch}", "components.code_tower.heads=2",
    "components.codebook={size: 9, code_width: 4}", "components.code_head.classes=9", "components.decoder.heads=2",
    "components.decoder_patches.width=16", "components.decoder_map.out=8",
    "components.teacher={width: 8, patch: 4, heads: 2}", "data.*.count=24", "data.*.size=16",
    *(f"stages.{name}.batch=6" for name in STAGES), *(f"stages.{name}.length=3 steps" for name in STAGES),
    *("stages.codes.optimizer.lr=1e-3", "params.lr=1e-3", "components.upper.drop_path=0.3"),
)  # fmt: skip


class Told(Silent):
    """Keeps every stage's losses; stops as a kill does after a step of a stage."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.now, self.stop = "", stop
        self.totals: dict[tuple[str, int], float] = {}
        self.notes: list[str] = []

    def stage(self, name: str, *_: Any, **__: Any) -> None:
        self.now = name

    def step(self, report: StepReport) -> None:
        self.totals[self.now, report.step] = report.total
        if (self.now, report.step) == self.stop:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(out: Path, notes: Told, *overrides: str, resume: bool = False) -> Run:
    written = [override.partition("=")[0].strip("~+") for override in overrides]
    small = [setting for setting in SMALL if not any(setting.startswith((f"{gone}.", f"{gone}=")) for gone in written)]
    blueprint = Blueprint.load("tiny/vlmo", overrides=[*small, *overrides])
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=2)
    return blueprint.train(out=out, options=options, track=False, listener=notes, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told, dict[str, Tensor]]:
    notes, out = Told(), tmp_path_factory.mktemp("runs") / "whole"
    run = train(out, notes)
    return out, notes, dict(run.asker.model.state_dict())


def test_all_four_stages_run(whole: tuple[Path, Told, dict[str, Tensor]]) -> None:
    _, notes, state = whole
    assert list(notes.totals) == [(stage, step) for stage in STAGES for step in range(3)]
    assert bool(state["components.codebook.started"])


@pytest.mark.parametrize("stop", [("codes", 2), ("vision", 1), ("language", 2), ("pairs", 1)])
def test_a_run_goes_on_inside_any_stage_bit_for_bit(
    whole: tuple[Path, Told, dict[str, Tensor]], tmp_path: Path, stop: tuple[str, int]
) -> None:
    _, notes, state = whole
    before, after = Told(stop), Told()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", before)
    assert RunFolder.open(tmp_path / "run").info.status == "KILLED"
    resumed = train(tmp_path / "run", after, resume=True)
    assert {**before.totals, **after.totals} == notes.totals
    for name, tensor in resumed.asker.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_words_are_learnt_with_all_else_as_it_was(whole: tuple[Path, Told, dict[str, Tensor]], tmp_path: Path) -> None:
    """From a file of what was learnt before, the language stage moves what the paper lets it, and the pairs all."""
    folder, _, _ = whole
    start = f"start=[{{from: {folder}}}]"
    dropped = ("~stages.codes", "~stages.vision", start)
    once = train(tmp_path / "once", Told(), *dropped, "stages.language.length=1 steps", "~stages.pairs")
    before = dict(once.asker.model.state_dict())
    notes = Told()
    after = dict(train(tmp_path / "run", notes, *dropped, "~stages.pairs").asker.model.state_dict())
    assert list(notes.totals) == [("language", step) for step in range(3)]
    moved = {
        name.removeprefix("components.") for name, tensor in after.items() if not torch.equal(tensor, before[name])
    }
    allowed = ("words_of.", "mlm_head.", "upper.norm.", "lower.relative_bias", "upper.relative_bias")
    assert moved and all(name.startswith(allowed) or ".experts.language." in name for name in moved), moved
    assert any(".experts.language." in name for name in moved) and any("relative_bias" in name for name in moved)


def test_a_run_begins_with_the_pairs_of_a_file(whole: tuple[Path, Told, dict[str, Tensor]], tmp_path: Path) -> None:
    folder, _, _ = whole
    notes = Told()
    fresh = '{new: ["**.vision_language.**"]}'
    begun = ("~stages.codes", "~stages.vision", "~stages.language")
    train(tmp_path / "run", notes, *begun, f"start=[{fresh}, {{from: {folder}}}]")
    assert list(notes.totals) == [("pairs", step) for step in range(3)]
    assert any("vision_language" in note and "anew" in note for note in notes.notes)


def of_two(rank: int, out: Path) -> dict[str, list[float]]:
    still = ("~stages.vision", "~stages.language", "~stages.pairs", "stages.codes.length=2 steps")
    state = train(out, Told(), *still, "optimizer.eps=1e-4").asker.model.state_dict()
    return {name: tensor.tolist() for name, tensor in state.items()}


@pytest.mark.slow
def test_two_processes_learn_the_codes_of_one(tmp_path: Path) -> None:
    alone = of_two(0, tmp_path / "alone")
    first, second = spawn(of_two, tmp_path / "two", joined=False)
    assert first == second
    for name, expected in alone.items():
        actual, tensor = torch.tensor(first[name]).double(), torch.tensor(expected).double()
        assert (actual - tensor).norm() <= 1e-4 * tensor.norm() + 1e-5, name
