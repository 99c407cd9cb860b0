"""A sweep from its file to scores: paired seeds, nothing twice, failures told, and going on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock
from compose_vlp.sweep.document import Sweep
from compose_vlp.sweep.results import read_sweep
from compose_vlp.sweep.session import Options, Session
from tests.sweep.inline import Quiet, run_inline

Written = Callable[..., Sweep]
LINES = (
    "vary: {teacher: {off: [], on: [hybrids/coca_momentum]}}",
    "budget: {steps: 4}",
    "measure: {count: 12, tasks: [retrieval]}",
)
SCORE = "retrieval.image_to_text_recall_at_1"


def test_a_sweep_is_trained_measured_and_read(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    session, engine, _ = run_inline(written(*LINES, "seeds: 2"), monkeypatch)
    assert [(job.cell, job.seed, job.state) for job in session.jobs] == [
        ("baseline", 0, "done"),
        ("baseline", 1, "done"),
        ("teacher=on", 0, "done"),
        ("teacher=on", 1, "done"),
    ]
    study = read_sweep(session.path)
    assert study.baseline == "baseline"
    assert study.factors == {"teacher": ["off", "on"]}
    assert {(trial.cell, trial.seed) for trial in study.trials} == {(job.cell, job.seed) for job in session.jobs}
    assert all(SCORE in trial.scores for trial in study.trials)
    assert study.missing == {}
    assert study.settings["budget"] == "4 steps for every run"
    first, last = study.trials[0], study.trials[-1]
    assert first.curves["pretrain.contrastive"][-1][0] == 3
    assert None not in (first.cost.parameters, first.cost.flops, first.cost.seconds)
    assert last.cost.flops is not None
    assert last.cost.flops > first.cost.flops, "a teacher's forward is counted"

    again, engine, notes = run_inline(session.sweep, monkeypatch)
    assert engine.started == []
    assert "4 of 4 runs are trained and measured already" in notes
    assert [job.state for job in again.jobs] == ["known"] * 4


def test_paired_runs_see_the_same_records_and_begin_with_the_same_weights(written: Written) -> None:
    """The records of a step are chosen by seed and place alone, so that it is enough to look at two models."""
    from compose_vlp.compiler.model import build
    from compose_vlp.data.sampler import Order, Position
    from compose_vlp.sweep.plan import plan

    cells = plan(written(*LINES)).cells
    models = [build(cell.blueprint.check(), "cpu", 7).state_dict() for cell in cells]
    shared = models[0].keys() & models[1].keys()
    assert len(shared) > 20
    assert all(torch.equal(models[0][name], models[1][name]) for name in shared)
    orders = [iter(Order(24, 6, 7).plans(Position())) for _ in cells]
    for _ in range(9):
        first, second = (next(order).rows for order in orders)
        assert first == second


def test_a_cell_that_another_sweep_has_trained_is_not_trained_again(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_inline(written(*LINES), monkeypatch, out=Path("runs/one"))
    other = written("vary: {weight: {full: [], half: [losses.contrastive.weight=0.5]}}", *LINES[1:])
    session, engine, _ = run_inline(other, monkeypatch, out=Path("runs/two"))
    assert [job.state for job in session.jobs] == ["known", "done"]
    assert len(engine.started) == 1
    assert len(read_sweep(Path("runs/two").absolute()).trials) == 2
    _, engine, _ = run_inline(other, monkeypatch, out=Path("runs/two"), again=True)
    assert len(engine.started) == 2


def test_another_measure_of_trained_runs_trains_nothing(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = run_inline(written(*LINES), monkeypatch)
    before = {job.trial.run: (job.trial.run / "run.json").read_text() for job in first.jobs}
    second, engine, _ = run_inline(written(*LINES[:2], "measure: {count: 6, tasks: [retrieval]}"), monkeypatch)
    assert len(engine.started) == 2
    assert [job.state for job in second.jobs] == ["done", "done"]
    assert {job.trial.run: (job.trial.run / "run.json").read_text() for job in second.jobs} == before


def test_a_changed_base_makes_new_cells_and_says_so(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Path("mine.yaml")
    mine.write_text("extends: tiny/coca\ndata: {pairs: {count: 24, size: 16}}\ninputs: {image: {size: 16}}\nbatch: 6\n")
    small = "'components.vision.width=32', 'components.*.depth=1', stages.pretrain.batch=6"
    base = f"base: [mine, {small}]"
    first, _, _ = run_inline(written(*LINES, base=base), monkeypatch)
    mine.write_text(mine.read_text() + "optimizer: {weight_decay: 0.5}\n")
    second, engine, notes = run_inline(written(*LINES, base=base), monkeypatch)
    assert len(engine.started) == 2
    assert any("the blueprint of all 2 cells has changed since this sweep last ran" in note for note in notes)
    assert all(job.trial.scores() for job in first.jobs), "what was trained before is kept"
    assert {job.trial.path for job in first.jobs}.isdisjoint(job.trial.path for job in second.jobs)


def test_a_run_that_fails_is_told_and_the_others_go_on(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def crash(folder: Path) -> str:
        if "baseline" in folder.name:
            tries.append(folder)
            return "training was killed by SIGKILL"
        return ""

    session, _, _ = run_inline(written(*LINES), monkeypatch, before=crash, retries=2)
    assert [job.state for job in session.jobs] == ["failed", "done"]
    assert len(tries) == 3
    study = read_sweep(session.path)
    assert [trial.cell for trial in study.trials] == ["teacher=on"]
    assert "seed 0" in study.missing["baseline"]

    healed, _, _ = run_inline(session.sweep, monkeypatch)
    assert [job.state for job in healed.jobs] == ["done", "known"]


def test_a_mistake_while_training_has_its_last_lines(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = written("vary: {lr: {good: [], wild: [optimizer.lr=1e30, '~optimizer.clip']}}", *LINES[1:])
    session, _, _ = run_inline(sweep, monkeypatch)
    good, wild = session.jobs
    assert (good.state, wild.state) == ("done", "failed")
    assert "train ended with exit code 2" in wild.reason
    assert "not finite" in wild.trial.tail() or "nan" in wild.trial.tail()
    assert "failed: train ended" in read_sweep(session.path).missing["lr=wild"]


def test_what_was_running_goes_on_bit_for_bit(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run dies after a checkpoint and goes on; its twin in another folder never stopped."""
    from compose_vlp.runtime.state import checkpoint
    from compose_vlp.runtime.training.stage_run import StageRun

    sweep = written(*LINES)
    whole, _, _ = run_inline(sweep, monkeypatch, out=Path("whole/sweep"))
    after, deaths = StageRun._after, [3]

    def die(self: StageRun, report: object) -> None:
        after(self, report)
        if deaths and report.step + 1 == deaths[0]:
            deaths.clear()
            raise RuntimeError("killed")

    monkeypatch.setattr(StageRun, "_after", die)
    first, _, _ = run_inline(sweep, monkeypatch, out=Path("died/sweep"))
    assert [job.state for job in first.jobs] == ["failed", "done"]
    second, _, _ = run_inline(sweep, monkeypatch, out=Path("died/sweep"))
    assert [job.state for job in second.jobs] == ["done", "known"]
    assert "resuming from step-" in second.jobs[0].trial.output.read_text()
    for mine, yours in zip(second.jobs, whole.jobs, strict=True):
        assert mine.trial.scores() == yours.trial.scores()
        one, two = (checkpoint.load(checkpoint.latest(job.trial.run / "checkpoints"))["model"] for job in (mine, yours))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_stopped_sweep_starts_no_more_runs_and_goes_on(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([0, 0, 15])
    session, engine, _ = run_inline(written(*LINES, "seeds: 2"), monkeypatch, asked=lambda: next(calls, 15))
    assert len(engine.started) < 4
    again, _, _ = run_inline(session.sweep, monkeypatch)
    assert {job.state for job in again.jobs} == {"done", "known"}


def test_minutes_become_steps_by_a_measurement(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose_vlp.sweep.work.PROBE_STEPS", 2)
    sweep = written("vary: {'losses.contrastive.weight': [1, 0.5]}", "budget: {minutes: 0.002}", LINES[2])
    session, _, _ = run_inline(sweep, monkeypatch)
    for job in session.jobs:
        assert job.state == "done"
        known = json.loads((job.trial.path / "steps.json").read_text())
        told = json.loads((job.trial.run / "run.json").read_text())["extra"]["stages"]["pretrain"]
        assert told["steps"] == known["steps"] == max(1, int(0.12 / known["seconds_per_step"]))
        assert not (job.trial.path / "probe").exists()


def test_a_sweep_that_runs_already_or_cannot_write_is_refused(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = written(*LINES)
    Path("runs/sweep-question").mkdir(parents=True)
    with ProcessLock(Path("runs/sweep-question/sweep.lock")), pytest.raises(UserError, match="another process runs"):
        Session(sweep, Options(track=False), print).run(Quiet(), lambda: 0)
    Path("file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        Session(sweep, Options(track=False, out=Path("file/below")), print).run(Quiet(), lambda: 0)


def test_a_folder_that_is_no_sweep_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder of a sweep"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="later version"):
        read_sweep(tmp_path)
