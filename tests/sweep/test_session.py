"""A sweep from its file to scores: paired seeds, nothing twice, failures told, and going on."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.cli.commands.report import find_sweep as find_sweep_folder
from compose_vlp.cli.run import run as run_command
from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.sweep import work
from compose_vlp.sweep.document import Sweep
from compose_vlp.sweep.folder import TrialFolder, TrialSettings
from compose_vlp.sweep.reading import read_sweep_file
from compose_vlp.sweep.results import read_sweep, runs_of
from compose_vlp.sweep.session import Options, Session
from compose_vlp.tracking.layout import Target, TrackFolder
from tests.sweep.conftest import BASE as SMALL
from tests.sweep.inline import Quiet, run_inline

Written = Callable[..., Sweep]
LINES = (
    "vary: {teacher: {off: [], on: [hybrids/coca_momentum]}}",
    "budget: {steps: 4}",
    "measure: {count: 12, tasks: [retrieval]}",
)
WEIGHT = "vary: {weight: {full: [], half: [losses.contrastive.weight=0.5]}}"
MINE = "extends: tiny/coca\nlosses: {captioning: {weight: 1.5}}\n"
BASE = f"base: [mine, {', '.join(repr(word) for word in SMALL[1:])}]"
SCORE = "retrieval.image_to_text_recall_at_1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two cells and one seed, which was run to its end."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.yaml").write_text(MINE)
    (folder / "question.yaml").write_text("\n".join(["sweep: question", BASE, *LINES]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        session, _, _ = run_inline(read_sweep_file(Path("question.yaml")), patch)
    assert [(job.cell, job.state) for job in session.jobs] == [("baseline", "done"), ("teacher=on", "done")]
    return session.path


@pytest.fixture
def ran(trained: Path, written: Written) -> Written:
    """`ran(...)` reads a sweep in a folder in which the first one has run already: a copy of that one's."""
    Path("mine.yaml").write_text(MINE)
    shutil.copytree(trained, Path("runs") / trained.name)
    return lambda *lines: written(*(lines or LINES), base=BASE)


def test_what_was_trained_is_read_as_a_study(trained: Path) -> None:
    study = read_sweep(trained)
    assert study.baseline == "baseline"
    assert study.factors == {"teacher": ["off", "on"]}
    assert [(trial.cell, trial.seed) for trial in study.trials] == [("baseline", 0), ("teacher=on", 0)]
    assert all(SCORE in trial.scores for trial in study.trials)
    assert study.missing == {}
    assert study.cells == {"baseline": "the baseline", "teacher=on": "hybrids/coca_momentum"}
    assert study.settings["baseline"].startswith("mine")
    assert study.settings["budget"] == "4 steps for every run"
    first, last = study.trials
    assert first.curves["pretrain.contrastive"][-1][0] == 3
    assert None not in (first.cost.parameters, first.cost.seconds, first.cost.memory)
    assert first.cost.flops is not None
    assert last.cost.flops is not None
    assert last.cost.flops > first.cost.flops, "a teacher's forward is counted"


def test_the_same_command_again_trains_nothing(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    again, engine, notes = run_inline(ran(), monkeypatch)
    assert engine.started == []
    assert "2 of 2 runs are trained and measured already" in notes
    assert [job.state for job in again.jobs] == ["known", "known"]


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
    ran: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, engine, _ = run_inline(ran(WEIGHT, *LINES[1:]), monkeypatch, out=Path("runs/two"))
    assert [job.state for job in session.jobs] == ["known", "done"]
    assert len(engine.started) == 1
    assert len(read_sweep(session.path).trials) == 2


def test_again_trains_anew_and_keeps_what_was(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    known, _, _ = run_inline(ran(), monkeypatch)
    before = {job.trial.path: job.trial.scores() for job in known.jobs}
    session, engine, _ = run_inline(ran(), monkeypatch, again=True)
    assert len(engine.started) == 2
    assert {job.trial.path: job.trial.scores() for job in session.jobs} == before, "and comes out the same"
    assert all(path.with_name(f"{path.name}~1").is_dir() for path in before)


def test_another_measure_of_trained_runs_trains_nothing(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    known, _, _ = run_inline(ran(), monkeypatch)
    before = {job.trial.path: (job.trial.run / "checkpoints").stat().st_mtime_ns for job in known.jobs}
    scores = {trial.cell: trial.scores for trial in read_sweep(known.path).trials}
    other = ran(*LINES[:2], "measure: {count: 6, tasks: [retrieval]}")
    second, engine, _ = run_inline(other, monkeypatch, out=Path("runs/two"))
    assert {trial.cell: trial.scores for trial in read_sweep(known.path).trials} == scores, "the first keeps its own"
    assert {trial.cell: trial.scores for trial in read_sweep(second.path).trials} != scores
    assert len(engine.started) == 2
    assert [job.state for job in second.jobs] == ["done", "done"]
    assert {job.trial.path: (job.trial.run / "checkpoints").stat().st_mtime_ns for job in second.jobs} == before


def test_a_changed_base_makes_new_cells_and_says_so(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = run_inline(ran(), monkeypatch)
    Path("mine.yaml").write_text(MINE + "optimizer: {weight_decay: 0.5}\n")
    second, engine, notes = run_inline(ran(), monkeypatch, before=lambda _: "stopped")
    assert len(engine.started) == 2
    assert any("the blueprint of all 2 cells has changed since this sweep last ran" in note for note in notes)
    assert all(job.trial.scores() for job in first.jobs), "what was trained before is kept"
    assert {job.trial.path for job in first.jobs}.isdisjoint(job.trial.path for job in second.jobs)


def test_a_run_that_fails_is_told_and_the_others_go_on(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    known, _, _ = run_inline(ran(), monkeypatch)
    for job in known.jobs:
        shutil.rmtree(job.trial.path)
    tries: list[Path] = []

    def crash(folder: Path) -> str:
        if "baseline" in folder.name:
            tries.append(folder)
            return "training was killed by SIGKILL"
        return ""

    session, _, _ = run_inline(ran(), monkeypatch, before=crash, retries=2)
    assert [job.state for job in session.jobs] == ["failed", "done"]
    assert len(tries) == 3
    study = read_sweep(session.path)
    assert [trial.cell for trial in study.trials] == ["teacher=on"]
    assert "seed 0" in study.missing["baseline"]


def test_a_mistake_while_training_has_its_last_lines(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = ran("vary: {lr: {good: [], wild: [optimizer.lr=1e30, '~optimizer.clip']}}", *LINES[1:])
    session, _, _ = run_inline(sweep, monkeypatch)
    good, wild = session.jobs
    assert (good.state, wild.state) == ("known", "failed")
    assert "train ended with exit code 2" in wild.reason
    assert "not finite" in wild.trial.tail() or "nan" in wild.trial.tail()
    assert "failed: train ended" in read_sweep(session.path).missing["lr=wild"]


def test_what_was_running_goes_on_bit_for_bit(ran: Written, monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    """A run dies after a checkpoint and goes on; its twin never stopped."""
    from compose_vlp.runtime.state import checkpoint
    from compose_vlp.runtime.training.stage_run import StageRun

    known, _, _ = run_inline(ran(), monkeypatch)
    shutil.rmtree(known.jobs[0].trial.path)
    after, deaths = StageRun._after, [3]

    def die(self: StageRun, report: object) -> None:
        after(self, report)
        if deaths and report.step + 1 == deaths[0]:
            deaths.clear()
            raise RuntimeError("killed")

    monkeypatch.setattr(StageRun, "_after", die)
    first, _, _ = run_inline(ran(), monkeypatch)
    assert [job.state for job in first.jobs] == ["failed", "known"]
    second, _, _ = run_inline(ran(), monkeypatch)
    assert [job.state for job in second.jobs] == ["done", "known"]
    mine = second.jobs[0].trial
    twin = TrialFolder(trained / "trials" / mine.path.name)
    assert "resuming from step-" in mine.output.read_text()
    assert mine.scores() == twin.scores()
    resumed, unbroken = (
        checkpoint.load(checkpoint.latest(trial.run / "checkpoints"))["model"] for trial in (mine, twin)
    )
    assert all(torch.equal(resumed[name], unbroken[name]) for name in resumed)


def test_a_stopped_sweep_starts_no_more_runs(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([0])
    asked = lambda: next(calls, 15)  # noqa: E731
    sweep = ran(WEIGHT, *LINES[1:], "seeds: 3")
    session, engine, _ = run_inline(sweep, monkeypatch, asked=asked, before=lambda _: "stopped")
    assert len(engine.started) == 1
    states = {(job.cell, job.seed): job.state for job in session.jobs}
    assert states.pop(("baseline", 0)) == "known"
    assert sorted(states.values()) == ["stopped", "waiting", "waiting", "waiting", "waiting"]


def test_all_cells_of_a_seed_come_before_the_next_seed(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a sweep is stopped, cells can be compared on the seeds that it came to."""
    _, engine, _ = run_inline(written(*LINES, "seeds: [7, 3]"), monkeypatch, before=lambda _: "not today")
    began = [TrialFolder(folder).settings for folder in engine.started]
    cells = [(settings.seed, settings.cell) for settings in began]
    assert cells == [(7, "baseline"), (7, "teacher=on"), (3, "baseline"), (3, "teacher=on")]


def test_minutes_become_steps_by_a_measurement(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose_vlp.sweep.work.PROBE_STEPS", 2)
    sweep = written(WEIGHT, "budget: {minutes: 0.002}", LINES[2])
    only_first = lambda folder: "" if "baseline" in folder.name else "stopped"  # noqa: E731
    session, _, _ = run_inline(sweep, monkeypatch, before=only_first)
    job = session.jobs[0]
    assert job.state == "done"
    known = json.loads((job.trial.path / "steps.json").read_text())
    notes = json.loads((job.trial.run / "run.json").read_text())["extra"]["stages"]["pretrain"]
    assert notes["steps"] == known["steps"] == max(1, int(0.12 / known["seconds_per_step"]))
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


def test_a_sweep_is_reported_by_its_folder_or_its_name(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained.parent.parent)
    assert trained.relative_to(Path.cwd()) == Path("runs/sweep-question")
    assert run_command(["report", "question", "--score", SCORE, "--json"]) == 0
    printed = capsys.readouterr()
    notes = json.loads(printed.out)
    assert notes["baseline"] == "baseline" and [row["cell"] for row in notes["rows"]] == ["baseline", "teacher=on"]
    assert notes["notes"][0].startswith("every cell has one seed: no interval can be given")
    assert "Report: runs/sweep-question/report/index.html" in printed.err
    assert "teacher=on" in (trained / "report" / "index.html").read_text(encoding="utf-8")
    assert run_command(["report", str(trained), "--out", str(tmp_path / "elsewhere")]) == 0
    assert capsys.readouterr().out.startswith("retrieval.mean_recall\n"), "what the field reports of the task"
    assert run_command(["report", "questoin"]) == 2
    assert "sweeps here: runs/sweep-question" in capsys.readouterr().err


def test_of_a_sweep_all_runs_that_were_tracked_are_sent(ran: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Path("runs/sweep-question")
    first, *_ = runs_of(sweep)
    for folder in (sweep, first):
        target = Target(folder.name, started_ms=0, uri="x", experiment="", run_name="", system_metrics_s=0)
        TrackFolder(folder).path.mkdir()
        TrackFolder(folder).write_target(target)
    sent: list[Path] = []
    monkeypatch.setattr("compose_vlp.tracking.sync", lambda folder: sent.append(folder) or "sent")
    assert run_command(["track", "sync", str(sweep)]) == 0
    assert sent == [sweep, first]


def test_a_folder_of_runs_that_is_taken_for_a_run_names_them(ran: Written) -> None:
    first = runs_of(Path("runs/sweep-question"))[0].relative_to(Path.cwd())
    for folder in (first.parent, Path("runs/sweep-question")):
        with pytest.raises(UserError) as caught:
            RunFolder.open(folder)
        assert caught.value.problems[0].hints[0].startswith(f"runs below it: {first}")


def test_a_command_that_failed_leaves_its_cause(tmp_path: Path) -> None:
    settings = TrialSettings("baseline", {}, 0, "d")
    with pytest.raises(work.Failed, match=r"^training ended with exit code 2: .* no blueprint is called 'nowhere'"):
        work._run([sys.executable, "-m", "compose_vlp", "check", "nowhere"], TrialFolder(tmp_path), settings)


@pytest.mark.parametrize("name", ["v1.5", "v1.5.yaml", "sweeps/v1.5"])
def test_a_sweep_whose_name_has_dots_is_found(name: str, ran: Written) -> None:
    shutil.move("runs/sweep-question", "runs/sweep-v1.5")
    assert find_sweep_folder(name) == Path("runs/sweep-v1.5")


def test_a_sweep_whose_runs_all_failed_says_why(ran: Written, capsys: pytest.CaptureFixture[str]) -> None:
    for file in Path("runs").rglob("scores-*.json"):
        file.unlink()
    for trial in Path("runs/sweep-question/trials").iterdir():
        TrialFolder(trial).fail("training was killed by SIGKILL")
    assert run_command(["report", "question"]) == 2
    printed = capsys.readouterr().err
    assert "no run has been measured" in printed
    assert "baseline: seed 0 failed: training was killed by SIGKILL" in printed
    assert "the sweep's command again" in printed


def test_a_measure_that_is_no_number_is_null_and_said(ran: Written, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(Path("runs").rglob("teacher*/scores-*.json"))
    measured = json.loads(file.read_text())
    file.write_text(json.dumps(measured | {"scores": measured["scores"] | {SCORE: None}}))
    assert run_command(["report", "question", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert any(f"{SCORE} came out as no number" in note for note in printed["notes"])


@pytest.mark.parametrize("text", ['{"format": 1, "cells": []}', "[]", "{"])
def test_a_damaged_sweep_says_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match="is damaged") as caught:
        read_sweep(tmp_path)
    assert "delete it" in caught.value.problems[0].hints[0]


def test_a_damaged_trial_says_what_to_do(tmp_path: Path) -> None:
    for text in ("{", "{}", "[]"):
        (tmp_path / "trial.json").write_text(text)
        with pytest.raises(UserError, match="is damaged") as caught:
            _ = TrialFolder(tmp_path).settings
        assert "delete it" in caught.value.problems[0].hints[0]
