"""Searches: Optuna's trials are cells; ranges, pruners, databases that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.sweep import session
from compose_vlp.sweep.document import Sweep
from compose_vlp.sweep.folder import TrialFolder
from compose_vlp.sweep.plan import Cell, Planner
from compose_vlp.sweep.running import Job
from compose_vlp.sweep.search import Searching, ends_of
from compose_vlp.sweep.session import Options, Session
from tests.sweep.conftest import BASE
from tests.sweep.inline import Quiet

optuna = pytest.importorskip("optuna")
Written = Callable[..., Sweep]
VARY = "vary: {optimizer.lr: 'log(1e-5, 1e-1)', loss: {full: [], half: [losses.contrastive.weight=0.5]}}"
SCORE = "retrieval.mean_recall"


def design(trials: int = 3, **more: str) -> str:
    extra = "".join(f", {name}: {value}" for name, value in more.items())
    return f"design: {{use: search, trials: {trials}, objective: {SCORE}{extra}}}"


class Pretended:
    """Scores a cell by its learning rate without training it; `gone_wrong` names trials that fail."""

    at_once: int | None = 1

    def __init__(self, reasons: list[str]) -> None:
        self.reasons, self.started = reasons, 0

    def start(self, folder: Path) -> "Pretended":
        self.started += 1
        trial = TrialFolder(folder)
        (folder / "run").mkdir(exist_ok=True)
        rate = float(trial.settings.levels["optimizer.lr"])
        self.reason = self.reasons.pop(0) if self.reasons else ""
        if not self.reason:
            trial.scores_file(trial.settings.evaluate).write_text(
                f'{{"scores": {{"{SCORE}": {rate + trial.settings.seed}}}}}'
            )
            (folder / "run" / "run.json").write_text('{"status": "FINISHED"}')
        return self

    def poll(self) -> str | None:
        return self.reason

    def stop(self) -> None: ...

    def close(self) -> None: ...


def search(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, *reasons: str, asked: Callable[[], int] = lambda: 0, **options: Any
) -> tuple[Session, Pretended, list[str]]:
    engine = Pretended([*reasons])
    notes: list[str] = []
    monkeypatch.setattr(session, "engine", lambda *_: engine)
    monkeypatch.setattr("compose_vlp.sweep.running.POLL_S", 0)
    monkeypatch.setattr("compose_vlp.sweep.plan.Cell.cost", lambda _: (1, {}))
    made = Session(sweep, Options(track=False, **options), notes.append)
    made.run(Quiet(), asked)
    return made, engine, notes


def study(made: Session) -> Any:
    return optuna.load_study(study_name=made.sweep.name, storage=f"sqlite:///{made.folder.study}")


def test_trials_are_cells_and_their_value_is_the_mean_over_seeds(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, engine, _ = search(written(VARY, design(sampler="random"), "seeds: 2"), monkeypatch)
    assert engine.started == 6
    trials = study(made).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    for trial in trials:
        assert trial.value == pytest.approx(trial.params["optimizer.lr"] + 0.5)
        assert 1e-5 <= trial.params["optimizer.lr"] <= 1e-1
        assert trial.params["loss"] in ("full", "half")
    for cell in made.cells.values():
        rate = float(cell.levels["optimizer.lr"])
        assert cell.blueprint.check().optimizer.lr == rate


def test_a_search_goes_on_where_it_was_stopped(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """And draws what it would have drawn without a stop."""
    sweep = written(VARY, design(4))
    calls = iter([0, 0])
    first, _, _ = search(sweep, monkeypatch, "", "stopped", asked=lambda: next(calls, 15))
    assert [trial.state.name for trial in study(first).trials] == ["COMPLETE", "RUNNING"]
    second, engine, _ = search(sweep, monkeypatch)
    assert engine.started == 3
    assert [trial.state.name for trial in study(second).trials] == ["COMPLETE"] * 4
    third, engine, _ = search(sweep, monkeypatch)
    assert engine.started == 0
    known = third.folder.known()
    assert known is not None and len(known.cells) == len(third.jobs) == 4, "what was trained before stays in the report"
    assert {job.state for job in third.jobs} == {"known"}
    unbroken, _, _ = search(sweep, monkeypatch, out=Path("unbroken"))
    assert [trial.params for trial in study(second).trials] == [trial.params for trial in study(unbroken).trials]


def test_a_search_of_another_base_says_so_and_keeps_what_was(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _, _ = search(written(VARY, design(2)), monkeypatch)
    changed = f"base: [{', '.join(map(repr, (*BASE[:-1], 'components.*.depth=2')))}]"
    after, engine, notes = search(written(VARY, design(3), base=changed), monkeypatch)
    assert engine.started == 1
    assert any("the blueprint of 2 trials has changed since they ran" in note for note in notes)
    old, new = before.folder.known(), after.folder.known()
    assert old is not None and new is not None and len(new.cells) == 3
    assert new.cells.items() >= old.cells.items()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([VARY, design(direction="minimize")], "this search began with `direction: maximize`"),
        ([VARY, design().replace("mean_recall", "text_to_image_recall_at_1")], "this search began with `objective: "),
        ([VARY.replace("half", "less"), design()], "this search began with `loss` as `choice(full, half)`"),
        ([VARY.replace("log", "uniform"), design()], "this search began with `optimizer.lr` as `log`"),
    ],
)
def test_a_search_that_asks_something_else_does_not_go_on(
    written: Written, monkeypatch: pytest.MonkeyPatch, lines: list[str], message: str
) -> None:
    search(written(VARY, design(1)), monkeypatch)
    with pytest.raises(BlueprintError) as caught:
        search(written(*lines), monkeypatch)
    (problem,) = caught.value.problems
    assert problem.message.startswith(message) and "`--again`" in problem.hints[0]


def test_a_failed_run_is_a_failed_trial_and_the_search_goes_on(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = search(written(VARY, design(3)), monkeypatch, "training was killed by SIGKILL")
    assert [trial.state.name for trial in study(made).trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    anew, engine, _ = search(made.sweep, monkeypatch)
    assert engine.started == 0 and [job.state for job in anew.jobs] == ["failed", "known", "known"]
    anew, engine, _ = search(made.sweep, monkeypatch, again=True)
    assert engine.started == 3 and [job.state for job in anew.jobs] == ["done"] * 3


def test_a_drawn_cell_that_is_no_model_is_told_and_passed_over(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    vary = "vary: {optimizer.lr: 'uniform(1e-3, 1e-2)', 'components.vision.heads': 'choice(1, 3, 2)'}"
    made, _, notes = search(written(vary, design(8, sampler="random")), monkeypatch)
    states = {trial.params["components.vision.heads"]: trial.state.name for trial in study(made).trials}
    assert states["3"] == "FAIL"
    assert {states[heads] for heads in states if heads != "3"} == {"COMPLETE"}
    assert any("is no model: " in note for note in notes)


def test_a_score_that_no_run_gives_is_told_with_what_there_is(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = written(VARY, "design: {use: search, trials: 2, objective: retrieval.image_to_text_recall_at_1}")
    with pytest.raises(UserError, match=r"no run gives the score `retrieval.image_to_text_recall_at_1`") as caught:
        search(sweep, monkeypatch)
    assert caught.value.problems[0].hints == (f"did you mean '{SCORE}'?",)
    with pytest.raises(BlueprintError, match="no task gives the score `mean_recal`"):
        search(written(VARY, "design: {use: search, trials: 2, objective: mean_recal}"), monkeypatch)


def test_a_run_that_is_not_worth_its_end_is_pruned(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five trials have measured 0.9 after ten steps; one that has 0.1 there is below their median."""
    sweep = written(VARY, design(9, pruner="median", sampler="random"))
    jobs: list[Job] = []

    def job_of(cell: Cell) -> list[Job]:
        jobs.append(Job(cell.name, 0, TrialFolder(Path(f"trial-{len(jobs)}"))))
        return jobs[-1:]

    monkeypatch.setattr("compose_vlp.sweep.search._LOOK_S", 0)
    monkeypatch.setattr("compose_vlp.sweep.running.TrialFolder.scores", lambda _: None)
    feed = Searching(sweep, Planner(sweep), Path("study.db").absolute(), job_of, print)
    for number in range(6):
        job = feed.take()
        assert job is not None
        assert not feed.unwanted(job), "nothing has been measured yet"
        job.trial.run.mkdir(parents=True)
        value = 0.1 if number == 5 else 0.9
        (job.trial.run / "run.json").write_text(
            json.dumps({"extra": {"scores": {"pairs": {"step": 10, SCORE: value}}}})
        )
        assert feed.unwanted(job) == (number == 5)
        job.state = "pruned" if number == 5 else "done"
        feed.finished(job)
    assert [trial.state.name for trial in feed.study.trials] == ["COMPLETE"] * 5 + ["PRUNED"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([VARY, design(sampler="tpee")], "no sampler is called `tpee`"),
        ([VARY, design(pruner="medain")], "no pruner is called `medain`"),
        ([VARY, design(), "leave_out: [{loss: half}]"], "a search leaves nothing out"),
        (["vary: {optimizer.lrr: 'log(1e-5, 1e-1)'}", design()], "`optimizer` has no field `lrr`"),
        (["vary: {components.vision.heads: 'int(1, 3)'}", design()], "width"),
    ],
)
def test_mistakes_are_told_before_anything_runs(written: Written, lines: list[str], message: str) -> None:
    with pytest.raises(BlueprintError) as caught:
        ends_of(written(*lines))
    assert message in caught.value.problems[0].message
    assert caught.value.problems[0].span.file == "question.yaml"


def test_a_database_that_cannot_be_used_is_told(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    sweep = written(VARY, design(1))
    made, _, _ = search(sweep, monkeypatch)
    more = written(VARY, design(2))
    monkeypatch.setattr("compose_vlp.sweep.search.PATIENCE_S", 0.2)
    with sqlite3.connect(made.folder.study) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="cannot be used: database is locked") as caught:
            search(more, monkeypatch)
        assert caught.value.problems[0].hints[0].startswith("another process uses it")
        other.rollback()
    made.folder.study.write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(UserError, match="cannot be used: file is not a database") as caught:
        search(more, monkeypatch)
    assert caught.value.problems[0].hints[0].startswith("move it away")


def test_a_cell_that_is_drawn_again_is_trained_once(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it waits or runs, and where all is trained anew."""
    vary = "vary: {optimizer.lr: 'choice(0.01, 0.02)'}"
    sweep = written(vary, design(trials=8, sampler="random"), "seeds: 2")
    engine = Pretended([])
    engine.at_once = 4
    monkeypatch.setattr(session, "engine", lambda *_: engine)
    monkeypatch.setattr("compose_vlp.sweep.running.POLL_S", 0)
    monkeypatch.setattr("compose_vlp.sweep.plan.Cell.cost", lambda _: (1, {}))
    made = Session(sweep, Options(track=False, again=True), lambda _: None)
    made.run(Quiet(), lambda: 0)
    assert engine.started == len(made.jobs) == 4
    assert [trial.state.name for trial in study(made).trials] == ["COMPLETE"] * 8
    assert len(list((made.path / "trials").iterdir())) == 4
