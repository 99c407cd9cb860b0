"""Runs that are stopped or killed: nothing is lost, and what goes on is the run that was never stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.errors import Stopped
from compose_vlp.readable import several
from compose_vlp.run import Run
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.manifest import MANIFEST
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.stage_evaluation import Evaluation, Seen
from compose_vlp.runtime.training.stopping import SIGNALS, Stopping
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.conftest import SMALL
from tests.runtime.test_training import STEPS, Watch
from tests.support import forked_context

OVERRIDES = (*SMALL, *STEPS, "components.multimodal.dropout=0.1")
EVERY = 3
"""Steps between checkpoints, and steps of an epoch: 20 records in batches of 6."""


class Signals(Watch):
    """Sends signals to its own process after a step."""

    def __init__(self, step: int, *signals: signal.Signals) -> None:
        super().__init__()
        self.at, self.signals = step, signals

    def step(self, report: StepReport) -> None:
        super().step(report)
        if report.step == self.at:
            for number in self.signals:
                os.kill(os.getpid(), number)


def learn(out: Path, watch: Watch, *, resume: bool = False, workers: int = 0, overrides: tuple[str, ...] = ()) -> Run:
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=EVERY, workers=workers)
    blueprint = Blueprint.load("tiny/coca", overrides=(*OVERRIDES, *overrides))
    return blueprint.train(out=out, options=options, track=False, listener=watch, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, float]]:
    """The run that nobody stopped, and its losses."""
    out, watch = tmp_path_factory.mktemp("whole") / "run", Watch()
    learn(out, watch)
    return out, watch.totals


Whole = tuple[Path, dict[int, float]]


MAY_DIFFER: dict[str, str] = {}
"""Files of a checkpoint that a run that was stopped may write otherwise, each with its reason: there are none."""
IN_MANIFEST = {"sequence": "counts the checkpoints that were saved, and one more was saved where the run was stopped"}


def assert_same(run: Path, other: Path, step: int) -> None:
    """Compare the checkpoints of a step file by file and byte by byte."""
    folders = [checkpoint.step_folder(run / "checkpoints", step) for run in (run, other)]
    names = [sorted(file.name for file in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    for name in set(names[0]) - set(MAY_DIFFER) - {MANIFEST}:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    manifests = [json.loads((folder / MANIFEST).read_text()) for folder in folders]
    assert manifests[0].keys() == manifests[1].keys()
    for key in set(manifests[0]) - set(IN_MANIFEST):
        assert manifests[0][key] == manifests[1][key], key


@pytest.fixture
def not_under_nohup() -> Iterator[None]:
    """SIGHUP ends what it reaches, as it does where the suite does not run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_at_the_end_of_the_step(
    whole: Whole, tmp_path: Path, asked: signal.Signals, not_under_nohup: None
) -> None:
    watch, after = Signals(3, asked), Watch()
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(Stopped) as stopped:
        learn(tmp_path / "run", watch)
    assert stopped.value.code == 128 + asked
    assert before == [signal.getsignal(number) for number in SIGNALS]
    assert RunFolder.open(tmp_path / "run").info.status == "KILLED"
    assert f"go on with `compose-vlp train --resume {tmp_path / 'run'}`" in watch.notes[-1]
    assert "step 4 of 8" in watch.notes[-1]
    learn(tmp_path / "run", after, resume=True)
    assert list(after.totals) == [4, 5, 6, 7], "no step is done twice"
    assert {**watch.totals, **after.totals} == whole[1]
    assert_same(whole[0], tmp_path / "run", 8)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run", Signals(0, signal.SIGINT, signal.SIGINT))
    assert RunFolder.open(tmp_path / "run").info.status == "KILLED"
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_sigterm_is_no_more_than_the_first(again: signal.Signals) -> None:
    with Stopping(speaks=False) as stopping:
        with stopping.patiently():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), again)
            assert stopping.asked == signal.SIGTERM
        os.kill(os.getpid(), again)  # while what is done is written down


def test_under_nohup_a_closed_terminal_says_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping(speaks=False) as stopping, stopping.patiently():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopping.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_can_be_done_again_is_broken_off_by_a_signal() -> None:
    with Stopping(speaks=False) as stopping, stopping.patiently():
        with pytest.raises(Stopped), stopping.breaking_off():
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.asked == signal.SIGTERM
        with pytest.raises(Stopped), stopping.breaking_off():
            pytest.fail("a run that is to stop begins nothing long")


def test_before_the_first_step_a_signal_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Stopping(speaks=False):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("at", [4, 8], ids=["in between", "at the end"])
def test_a_signal_while_a_stage_is_measured_breaks_that_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Measuring may take longer than a scheduler waits: what is learnt is saved; what is due at the end comes later."""
    measured: list[int] = []

    def seen(evaluation: Evaluation) -> Seen:
        measured.append(evaluation.every)
        if len(measured) == at // 4 and not again:
            os.kill(os.getpid(), signal.SIGTERM)
        return Seen({"recall": 0.5})

    monkeypatch.setattr(Evaluation, "seen", seen)
    again: list[bool] = []
    watch, after = Watch(), Watch()
    evaluated = "stages.pretrain.evaluate=4 steps"
    with pytest.raises(Stopped):
        learn(tmp_path / "run", watch, overrides=(evaluated,))
    assert max(watch.totals) + 1 == min(at + 1, 8)
    assert any("told to stop" in note for note in watch.notes)
    again.append(True)
    learn(tmp_path / "run", after, resume=True, overrides=(evaluated,))
    assert sorted([*watch.totals, *after.totals]) == list(range(8))
    assert RunFolder.open(tmp_path / "run").info.extra["scores"]["pairs"]["step"] == 8


def test_another_number_of_threads_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Signals(2, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run", watch)
    threads, again = torch.get_num_threads(), Signals(99)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    learn(tmp_path / "run", again, resume=True)
    (notes,) = [note for note in again.notes if " thread" in note]
    assert f"had {several(threads, 'thread')} and has {several(threads + 1, 'thread')} now" in notes


DEATHS: dict[str, dict[str, Any]] = {
    "in a step of the first epoch": {"step": 1},
    "in a step of the second epoch": {"step": 4},
    "while saving after an epoch": {"save": 2},
    "after saving, with readers": {"step": 6, "workers": 2},
}


def die(out: Path, threads: int, step: int | None = None, save: int | None = None, workers: int = 0) -> None:
    """Train in a process of its own until it is killed."""
    torch.set_num_threads(threads)
    saved: list[Path] = []

    def save_file(tensors: Any, path: Path, metadata: Any) -> None:
        saved.append(path)
        if save is not None and len(saved) > 2 * save - 1:  # in the middle: the model is written, and no moments
            path.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        plain(tensors, path, metadata)

    plain, checkpoint.save_file = checkpoint.save_file, save_file  # type: ignore[assignment]
    learn(out, Signals(99 if step is None else step, signal.SIGKILL), workers=workers)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs that died, each by its name; they train at the same time."""
    out, context = tmp_path_factory.mktemp("killed"), forked_context()
    started = [
        context.Process(target=die, args=(out / name, torch.get_num_threads()), kwargs=how)
        for name, how in DEATHS.items()
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(200)
    assert [process.exitcode for process in started] == [-signal.SIGKILL] * len(DEATHS)
    yield out
    for process in started:
        process.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", DEATHS)
def test_a_killed_run_goes_on_bit_for_bit(whole: Whole, killed: Path, name: str) -> None:
    run, after = killed / name, Watch()
    assert RunFolder.open(run).info.status == "FAILED"
    learn(run, after, resume=True, workers=DEATHS[name].get("workers", 0))
    died = DEATHS[name].get("step", EVERY)
    assert next(iter(after.totals)) == died // EVERY * EVERY
    assert after.totals == {step: whole[1][step] for step in after.totals}
    assert_same(whole[0], run, 6)
    assert_same(whole[0], run, 8)


def test_resuming_is_told_where_it_begins(whole: Whole, tmp_path: Path) -> None:
    """A checkpoint that is cut short, and one that is damaged, are passed over for the one before."""
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run", Signals(6, signal.SIGTERM))
    newest = tmp_path / "run" / "checkpoints" / "step-00000007" / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    again = Signals(99)
    learn(tmp_path / "run", again, resume=True)
    assert any("passing over checkpoint step-00000007" in note and "damaged" in note for note in again.notes)
    assert "resuming from step-00000006" in again.notes
    assert again.totals == {step: whole[1][step] for step in (6, 7)}
