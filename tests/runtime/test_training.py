"""Training: steps that learn, runs that go on where they stopped, mistakes that are told."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.components.tokenizers.bpe import BytePairs
from compose_vlp.errors import UserError
from compose_vlp.run import Run
from compose_vlp.runtime import sources
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.conftest import SMALL
from tests.support import assert_near

Load = Callable[..., Blueprint]
STEPS = ("stages.pretrain.length=8 steps", "stages.pretrain.batch=6", "data.pairs.count=20", "data.pairs.size=16")


class Watch(Silent):
    """Keeps losses and notes; stops as a second Ctrl-C does after the step asked for."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.totals: dict[int, float] = {}
        self.notes: list[str] = []
        self.stop_after = stop_after

    def step(self, report: StepReport) -> None:
        self.totals[report.step] = report.total
        if report.step == self.stop_after:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(blueprint: Blueprint, out: Path, watch: Watch, *, resume: bool = False) -> Run:
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=3)
    return blueprint.train(out=out, options=options, track=False, listener=watch, resume=resume)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(small_coca: Load, tmp_path: Path) -> None:
    overrides = (*STEPS, "components.multimodal.dropout=0.1", "stages.pretrain.bucket=2")
    whole, before, after = Watch(), Watch(stop_after=4), Watch()
    uninterrupted = train(small_coca(*overrides), tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train(small_coca(*overrides), tmp_path / "stopped", before)
    assert RunFolder.open(tmp_path / "stopped").info.status == "KILLED"
    assert any("with texts of like length, chosen among 2 batches" in note for note in whole.notes)
    resumed = train(small_coca(*overrides), tmp_path / "stopped", after, resume=True)
    assert list(after.totals) == [3, 4, 5, 6, 7], "from the last checkpoint on, over the end of an epoch"
    assert {**before.totals, **after.totals} == whole.totals
    for name, tensor in uninterrupted.asker.model.state_dict().items():
        assert torch.equal(tensor, resumed.asker.model.state_dict()[name]), name
    assert RunFolder.open(tmp_path / "stopped").info.status == "FINISHED"


def test_the_seed_decides_and_nothing_else(small_coca: Load, tmp_path: Path) -> None:
    first, second = Watch(), Watch()
    train(small_coca(*STEPS), tmp_path / "a", first)
    torch.rand(3)
    train(small_coca(*STEPS), tmp_path / "b", second)
    assert first.totals == second.totals


def test_a_loss_that_is_not_finite_stops_and_is_named(small_coca: Load, tmp_path: Path) -> None:
    blueprint = small_coca(*STEPS, "optimizer.lr=1e30", "~optimizer.clip")
    with pytest.raises(UserError, match=r"step \d: (contrastive|captioning)"):
        train(blueprint, tmp_path / "run", Watch())
    assert RunFolder.open(tmp_path / "run").info.status == "FAILED"


def test_frozen_components_do_not_move(small_coca: Load, tmp_path: Path) -> None:
    run = train(small_coca(*STEPS, "stages.pretrain.freeze=[vision]"), tmp_path / "run", Watch())
    from compose_vlp.compiler.model import build

    fresh = build(run.blueprint, seed=1).state_dict()
    moved = {name.split(".")[1] for name, t in run.asker.model.state_dict().items() if not torch.equal(t, fresh[name])}
    assert "vision" not in moved and {"pool_many", "unimodal", "multimodal"} <= moved


def test_a_trained_run_is_asked_with_pictures_and_texts(small_coca: Load, tmp_path: Path) -> None:
    from PIL import Image

    run = train(small_coca(*STEPS), tmp_path / "run", Watch())
    picture = tmp_path / "red.png"
    Image.new("RGB", (30, 20), "red").save(picture)
    assert isinstance(run.caption(str(picture)), str)
    assert len(run.caption([picture, picture], beams=2, max_length=6)) == 2
    vectors = run.text_embedding(["a red circle", "a blue square"])
    assert vectors.shape == (2, 24)
    assert_near(vectors.norm(dim=1), torch.ones(2))
    with pytest.raises(AttributeError, match=r"no output .captoin.*caption"):
        run.captoin(picture)
    with pytest.raises(UserError, match="has no setting 'beam'"):
        run.caption(picture, beam=2)
    with pytest.raises(UserError, match="longer than the 12 positions"):
        run.caption(picture, max_length=99)
    with pytest.raises(UserError, match="reads image"):
        run.caption(picture, picture)


def test_data_that_is_not_there_is_a_clear_mistake(small_coca: Load, tmp_path: Path) -> None:
    blueprint = small_coca(*STEPS[:2], "data.pairs={use: jsonl, path: nowhere.jsonl}")
    with pytest.raises(UserError, match=r"nowhere\.jsonl"):
        train(blueprint, tmp_path / "run", Watch())


def test_a_batch_larger_than_the_source_is_refused(small_coca: Load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a step takes 50 records, and the source has 20"):
        train(small_coca(*STEPS[:1], *STEPS[2:], "stages.pretrain.batch=50"), tmp_path / "run", Watch())


def test_docs_variable_cuts_every_stage_and_what_vocabularies_are_learnt_from(
    small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_VLP_DOCS_STEPS", "2")
    monkeypatch.setattr(sources, "CUT_RECORDS", 5)
    lengths: list[int] = []
    learn = BytePairs.train
    monkeypatch.setattr(BytePairs, "train", lambda self, texts: lengths.append(len(texts)) or learn(self, texts))
    watch = Watch()
    train(small_coca(*STEPS), tmp_path / "run", watch)
    assert list(watch.totals) == [0, 1]
    assert lengths == [5]


def test_a_run_with_a_teacher_goes_on_bit_for_bit(tmp_path: Path) -> None:
    overrides = [*SMALL, *STEPS, "components.multimodal.dropout=0.1", "teachers.momentum.decay=0.8"]
    hybrid = Blueprint.load("tiny/coca", "hybrids/coca_momentum", overrides=overrides)
    whole, after = Watch(), Watch()
    uninterrupted = train(hybrid, tmp_path / "whole", whole).asker.model
    with pytest.raises(KeyboardInterrupt):
        train(hybrid, tmp_path / "stopped", Watch(stop_after=4))
    resumed = train(hybrid, tmp_path / "stopped", after, resume=True).asker.model
    assert after.totals == {step: whole.totals[step] for step in after.totals} and min(after.totals) == 3
    state = resumed.state_dict()
    for name, tensor in uninterrupted.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    student, teacher = (world.vision.norm.bias for world in (resumed.student, resumed.worlds["momentum"]))
    assert not torch.equal(student, teacher)
