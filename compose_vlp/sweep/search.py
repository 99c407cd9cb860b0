"""Searches: Optuna thinks of the next cell, a database in the sweep's folder remembers all that were tried."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from compose_vlp.errors import BlueprintError, Problem, UserError, did_you_mean
from compose_vlp.sweep.document import Factor, Level, Search, Sweep
from compose_vlp.sweep.plan import Cell, Plan, Planner
from compose_vlp.sweep.running import Job, State, scores_so_far
from compose_vlp.sweep.words import Word, layered

if TYPE_CHECKING:
    import optuna

SAMPLERS: Final = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "qmc": "QMCSampler",
}
PRUNERS: Final = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}
_LOOK_S: Final = 1.0
PATIENCE_S: Final = 10.0
"""Seconds for which a database that somebody else has locked is waited for."""
_REMEDIES: Final = {
    "locked": "another process uses it; nothing is lost: the same command goes on",
    "readonly": "make it writable; nothing is lost: the same command goes on",
    "full": "make room; nothing is lost: the same command goes on",
    "not a database": "move it away: the search begins anew, and takes runs that are trained where it draws them again",
    "malformed": "move it away: the search begins anew, and takes runs that are trained where it draws them again",
}
"""What helps, by what SQLite says."""
_MISTAKES: Final = 10
"""Drawn cells that may be wrong one after the other: more, and there is nothing to be found."""


class Searching:
    """A feed of runs: each of Optuna's trials is a cell, trained with every seed; its value is their mean."""

    def __init__(
        self,
        sweep: Sweep,
        planner: Planner,
        database: Path,
        jobs_of: Callable[[Cell], list[Job]],
        note: Callable[[str], None],
        remember: Callable[[Cell, State], None] = lambda *_: None,
    ) -> None:
        assert isinstance(sweep.design, Search)
        self.sweep, self.planner, self.jobs_of, self.note = sweep, planner, jobs_of, note
        self.remember = remember
        self.settings = sweep.design
        self.database = database
        ends_of(sweep, planner.plugins)
        self.study = _study(sweep, self.settings, database)
        self.sampler = _sampler(self.settings)
        self.open: dict[int, tuple[optuna.Trial, list[Job]]] = {}
        self.waiting: list[Job] = []
        self.mistakes = 0
        self.looked = 0.0
        self.reported: dict[int, int] = {}
        with _database(database):
            _judge_study(sweep, self.settings, self.study)
            for frozen in self.study.get_trials(deepcopy=False):
                if frozen.state.name == "RUNNING":  # of a sweep that was stopped or killed
                    self._open(self._again(frozen))
                else:
                    self._remember(frozen)

    # --- the feed -----------------------------------------------------------------------------------------------

    def take(self) -> Job | None:
        while not self.waiting and self._left() > 0:
            with _database(self.database):
                self._draw(len(self.study.get_trials(deepcopy=False)))
                self._open(self.study.ask())
        return self.waiting.pop(0) if self.waiting else None

    def finished(self, job: Job) -> None:
        for number, (trial, jobs) in list(self.open.items()):
            if job in jobs and not any(sibling.is_open for sibling in jobs):
                if all(sibling.state != "stopped" for sibling in jobs):
                    self._tell(trial, jobs)
                del self.open[number]

    def unwanted(self, job: Job) -> bool:
        """Ask the pruner, of each trial its first seed's run, when it has measured anew."""
        if self.settings.pruner == "none" or time.monotonic() - self.looked < _LOOK_S:
            return False
        self.looked = time.monotonic()
        number = next((number for number, (_, jobs) in self.open.items() if job is jobs[0]), None)
        if number is None:
            return False
        step, value = self._measured(job)
        if value is None or step <= self.reported.get(number, -1):
            return False
        self.reported[number] = step
        trial, jobs = self.open[number]
        with _database(self.database):
            trial.report(value, step)
            unwanted = trial.should_prune()
        for other in jobs[1:] if unwanted else ():
            other.state = "pruned"
            self.waiting = [waiting_job for waiting_job in self.waiting if waiting_job is not other]
        return unwanted

    @property
    def exhausted(self) -> bool:
        return not self.waiting and self._left() <= 0

    # --- Optuna's trials ----------------------------------------------------------------------------------------

    def _left(self) -> int:
        with _database(self.database):
            return self.settings.trials - len(self.study.get_trials(deepcopy=False))

    def _draw(self, number: int) -> None:
        """Draw the trial of this number from a stream of its own, which a search that was killed draws from again."""
        self.study.sampler = self.sampler(seed=self.settings.seed + number)

    def _again(self, frozen: optuna.trial.FrozenTrial) -> optuna.Trial:
        import optuna

        self._draw(frozen.number)
        return optuna.Trial(self.study, frozen._trial_id)  # noqa: SLF001 - as Optuna's own `ask` makes one

    def _remember(self, frozen: optuna.trial.FrozenTrial) -> None:
        """Tell of the cell of a trial that ended before this command."""
        import optuna

        if any(factor.name not in frozen.params for factor in self.sweep.factors):  # of a design that has changed since
            return
        _, cell = self._cell(optuna.trial.FixedTrial(frozen.params))
        if cell is not None:
            self.remember(cell, "pruned" if frozen.state.name == "PRUNED" else "failed")

    def _cell(self, trial: optuna.trial.BaseTrial) -> tuple[str, Cell | None]:
        """Make the cell that a trial draws, with its name; None where it is wrong, as the planner's problems tell."""
        levels: dict[str, str] = {}
        words: list[Word] = []
        with warnings.catch_warnings(action="ignore"):  # of a range that is narrower now than when this was drawn
            for factor in self.sweep.factors:
                levels[factor.name], more = _drawn(factor, trial)
                words += more
        self.planner.problems.clear()
        cell = self.planner.cell(levels, _name(levels), layered(self.sweep.base, words))
        return _name(levels), None if self.planner.problems else cell

    def _open(self, trial: optuna.Trial) -> None:
        """Make the cell that a trial draws; one that is wrong has failed."""
        name, cell = self._cell(trial)
        if cell is None:
            self.mistakes += 1
            problem = next(iter(self.planner.problems))
            self.note(f"trial {trial.number} ({name}) is no model: {problem.message}")
            if self.mistakes >= _MISTAKES:
                self.planner.raise_problems()
            self.study.tell(trial, state=_states().FAIL)
            return
        self.mistakes = 0
        jobs = self.jobs_of(cell)
        self.open[trial.number] = (trial, jobs)
        queued = [id(job) for job in self.waiting]  # a cell that was drawn before may wait or run already
        self.waiting += [job for job in jobs if job.state == "waiting" and id(job) not in queued]
        if not any(job.is_open for job in jobs):
            self.finished(jobs[0])

    def _tell(self, trial: optuna.Trial, jobs: Sequence[Job]) -> None:
        values = [self._measured(job)[1] for job in jobs if job.state in ("done", "known")]
        known = [value for value in values if value is not None]
        with _database(self.database):
            if any(job.state == "pruned" for job in jobs):
                self.study.tell(trial, state=_states().PRUNED)
            elif len(known) == len(jobs):
                self.study.tell(trial, fmean(known))
            else:
                self.study.tell(trial, state=_states().FAIL)
        missing = next((job for job in jobs if job.state in ("done", "known") and self._measured(job)[1] is None), None)
        if missing is not None:
            raise self._unmeasured(missing)

    def _measured(self, job: Job) -> tuple[int, float | None]:
        from compose_vlp.sweep.folder import read_json

        value = scores_so_far(job.trial).get(self.settings.objective)
        extra = (read_json(job.trial.run / "run.json") or {}).get("extra", {})
        steps = [int(scores["step"]) for scores in extra.get("scores", {}).values()]
        return max(steps, default=0), value

    def _unmeasured(self, job: Job) -> UserError:
        names = list(scores_so_far(job.trial))
        hints = did_you_mean(self.settings.objective, names) or (f"scores: {', '.join(names)}",)
        span = self.sweep.span("design.objective", "design")
        return UserError(f"no run gives the score `{self.settings.objective}`", hints=hints, span=span)


def ends_of(sweep: Sweep, plugins: Sequence[Path] = ()) -> Plan:
    """The cells at both ends of all ranges, so that a wrong path or bound is told before anything runs.

    Raises:
        BlueprintError: their mistakes, or those of the search's settings.
    """
    _judge(sweep)
    planner = Planner(sweep, plugins)
    cells = []
    for end in (0, -1):
        levels: dict[str, str] = {}
        words: list[Word] = []
        for factor in sweep.factors:
            if factor.range is None:
                levels[factor.name] = factor.levels[end].name
                words += factor.levels[end].words
            else:
                levels[factor.name] = factor.range.arguments[end]
                words.append(_word(factor, factor.range.arguments[end]))
        cells.append(planner.cell(levels, _name(levels), layered(sweep.base, words)))
    planner.raise_problems()
    return Plan(sweep, tuple(cell for cell in cells if cell is not None))


def _name(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{factor}={level}" for factor, level in levels.items())


def _drawn(factor: Factor, trial: optuna.trial.BaseTrial) -> tuple[str, list[Word]]:
    if factor.range is not None:
        value = factor.range.draw(trial, factor.name)
        return value, [_word(factor, value)]
    level: Level | None = factor.level(trial.suggest_categorical(factor.name, [known.name for known in factor.levels]))
    assert level is not None, "Optuna gives what it was given"
    return level.name, list(level.words)


def _word(factor: Factor, value: str) -> Word:
    return Word(f"{factor.key.text}={value}", ((0, factor.key),))


def _judge(sweep: Sweep) -> None:
    settings = sweep.design
    assert isinstance(settings, Search)
    problems = []
    for key, written, known in (("sampler", settings.sampler, SAMPLERS), ("pruner", settings.pruner, PRUNERS)):
        if written not in known:
            hints = did_you_mean(written, known) or (f"{key}s: {', '.join(known)}",)
            problems.append(Problem(f"no {key} is called `{written}`", sweep.span(f"design.{key}", "design"), hints))
    if sweep.leave_out:
        hint = "a search tries few of all cells; vary other levels"
        problems.append(Problem("a search leaves nothing out", sweep.span("leave_out"), (hint,)))
    if problems:
        raise BlueprintError(problems, sweep.lines)


def _study(sweep: Sweep, settings: Search, database: Path) -> optuna.Study:
    try:
        import optuna
    except ModuleNotFoundError:
        hint = "pip install 'compose-vlp[search]'"
        raise UserError("a search needs the package optuna, which is not installed", hints=(hint,)) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _database(database):
        return optuna.create_study(
            storage=optuna.storages.RDBStorage(
                f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": PATIENCE_S}}
            ),
            study_name=sweep.name,
            load_if_exists=True,
            direction=settings.direction,
            pruner=getattr(optuna.pruners, PRUNERS[settings.pruner])(),
        )


def _judge_study(sweep: Sweep, settings: Search, study: optuna.Study) -> None:
    """Refuse to go on with a study that asked something else: Optuna keeps its direction, and mixes all values.

    Raises:
        BlueprintError: the objective, its direction or the levels of a factor have changed since the search began.
    """
    before = study.user_attrs.get("objective", settings.objective), study.direction.name.lower()
    hint = "`--again` begins the search anew; another name for the sweep begins one beside it"
    problems = [
        Problem(f"this search began with `{key}: {then}`", sweep.span(f"design.{key}", "design"), (hint,))
        for key, now, then in zip(
            ("objective", "direction"), (settings.objective, settings.direction), before, strict=True
        )
        if now != then
    ]
    drawn = {
        name: _form(kind) for trial in study.get_trials(deepcopy=False) for name, kind in trial.distributions.items()
    }
    for factor in sweep.factors:
        form = f"choice({', '.join(level.name for level in factor.levels)})"
        if factor.range is not None:
            form = str(factor.range) if factor.range.form == "choice" else factor.range.form
        if drawn.get(factor.name, form) != form:
            message = f"this search began with `{factor.name}` as `{drawn[factor.name]}`"
            problems.append(Problem(message, factor.key.span, (hint,)))
    if problems:
        raise BlueprintError(problems, sweep.lines)
    study.set_user_attr("objective", settings.objective)


def _form(distribution: Any) -> str:
    """Name the form of a range that Optuna has drawn from: what it does not let change."""
    if hasattr(distribution, "choices"):
        return f"choice({', '.join(distribution.choices)})"
    return "log" if distribution.log else "int" if isinstance(distribution.low, int) else "uniform"


def _sampler(settings: Search) -> Callable[..., optuna.samplers.BaseSampler]:
    import optuna

    sampler: Callable[..., optuna.samplers.BaseSampler] = getattr(optuna.samplers, SAMPLERS[settings.sampler])
    try:
        sampler(seed=settings.seed)
    except ImportError as error:
        raise UserError(f"sampler `{settings.sampler}` needs a package that is not installed: {error}") from None
    return sampler


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState


@contextmanager
def _database(file: Path) -> Iterator[None]:
    """Within it, a database that is locked, read-only or damaged is a mistake that is told."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.Error):
            cause = getattr(cause, "orig", None) or cause.__cause__ or cause.__context__
        if cause is None:
            raise
        hint = next((hint for words, hint in _REMEDIES.items() if words in str(cause)), "its trained runs are kept")
        raise UserError(f"the study in {file} cannot be used: {cause}", hints=(hint,)) from error
