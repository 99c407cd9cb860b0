"""A sweep from its document to trained and measured runs: plan, folder, runs, and what is left in the folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from compose_vlp.blueprint.nodes import Entry, Scalar
from compose_vlp.blueprint.sections import Tracking
from compose_vlp.blueprint.trees import put
from compose_vlp.blueprint.write import write
from compose_vlp.errors import Span, UserError
from compose_vlp.sweep.document import Factor, Search, Sweep
from compose_vlp.sweep.engines import Resources, engine
from compose_vlp.sweep.folder import FORMAT, SWEEP_FILE, KnownCell, KnownSweep, SweepFolder, TrialSettings
from compose_vlp.sweep.identity import Identity
from compose_vlp.sweep.plan import Cell, Plan, Planner, plan
from compose_vlp.sweep.running import Feed, Job, Listed, State, Watching, run_all
from compose_vlp.sweep.search import Searching, ends_of
from compose_vlp.tracked import FACTOR, command_line, marked, tracking_of
from compose_vlp.tracking import NullTracker, OutboxTracker, Tracker, TrackSettings, environment_tags, versions
from compose_vlp.tracking.layout import TrackFolder


@dataclass(frozen=True)
class Options:
    """What may be said of a sweep beside its document.

    Attributes:
        out: The sweep's folder; below `runs`, by its name, if left out.
        jobs: Runs at a time; one here, and all at once on a cluster, if left out.
        on: `local`, `ray`, `ray://HOST:PORT` or `slurm`.
        retries: How often a run that failed is tried again.
        again: Whether to train what has been trained already.
        device: As `train` takes it.
        plugins: Files with kinds of one's own.
        track: Whether MLflow has the sweep and its runs.
        train: Further options of `train`.
        command: The command line, for the record.
    """

    out: Path | None = None
    jobs: int | None = None
    on: str = "local"
    resources: Resources = field(default_factory=Resources)
    retries: int = 0
    again: bool = False
    device: str = "auto"
    plugins: tuple[Path, ...] = ()
    track: bool = True
    train: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass
class Session:
    """A sweep that is being run."""

    sweep: Sweep
    options: Options
    note: Callable[[str], None]
    jobs: list[Job] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    parent: str | None = None
    kept: dict[str, tuple[KnownCell, Cell]] = field(default_factory=dict)
    costs: dict[str, tuple[int | None, dict[str, float | None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = (self.options.out or Path("runs") / f"sweep-{self.sweep.name}").absolute()
        self.folder = SweepFolder(self.path)
        self.before = self.folder.known()

    def run(self, watching: Watching, asked: Callable[[], int], tick: Callable[[str], None] = lambda _: None) -> None:
        """Plan, and train and measure what is not done yet.

        Raises:
            BlueprintError: mistakes of the sweep or of its cells.
            UserError: a folder in use, a place to train at that cannot be had.
        """
        planned = None if isinstance(self.sweep.design, Search) else self.planned(tick)
        with self._claimed():
            trainer = engine(self.options.on, self.options.jobs, self.options.resources, self.path)
            try:
                with self._tracked(planned) as tracker:
                    feed = self._searched() if planned is None else self._listed(planned)
                    run_all(feed, trainer, self.options.retries, _Counting(self, watching), asked)
                    for name in self.cells.keys() - self.costs.keys():  # of cells that another sweep has trained
                        self.costs[name] = self.cells[name].cost()
                    self.folder.write(self._known())
                    tracker.artifacts({SWEEP_FILE: self.path / SWEEP_FILE})
            finally:
                trainer.close()
                if self.cells:
                    self.folder.write(self._known())

    @contextmanager
    def _tracked(self, planned: Plan | None) -> Iterator[Tracker]:
        """The sweep as a run of its own in MLflow, below which its runs are shown."""
        if not self.options.track:
            yield NullTracker()
            return
        written = tracking_of(planned.cells[0].blueprint.check()) if planned is not None else Tracking()
        where = TrackSettings(written.experiment or self.sweep.name, self.sweep.name, uri=written.uri)
        with OutboxTracker.start(self.path, where) as tracker:
            target = TrackFolder(self.path).read_target()
            self.parent = target.key if target is not None else None
            known = {"kind": "sweep", "x-sweep": self.sweep.name, "mlflow.note.content": self._described()}
            tracker.tags(environment_tags() | known)
            yield tracker

    def _described(self) -> str:
        """Write what the sweep's page in MLflow says of it, in Markdown."""
        sweep = self.sweep
        design = sweep.design.use if isinstance(sweep.design, Search) else sweep.design
        seeds = ", ".join(map(str, sweep.seeds))
        lines = [f"**{sweep.question or sweep.name}**", "", f"- base: `{' '.join(word.text for word in sweep.base)}`"]
        lines += [f"- factor `{factor.name}`: {', '.join(_levels(factor))}" for factor in sweep.factors]
        lines.append(f"- design: {design.replace('_', ' ')}, seeds {seeds}")
        lines += [f"- budget: {sweep.budget} for every run"] if sweep.budget is not None else []
        lines += ["", "```", command_line(self.options.command), "```", ""]
        lines.append("Among its files: `sweep.json`, and the report once `compose-vlp report` has written it.")
        return "\n".join(lines)

    def planned(self, tick: Callable[[str], None]) -> Plan:
        """The cells of a design that is known beforehand; of a search, those at the ends of its ranges.

        Raises:
            BlueprintError: mistakes of the sweep or of its cells.
        """
        if isinstance(self.sweep.design, Search):
            return ends_of(self.sweep, self.options.plugins)
        return plan(self.sweep, self.options.plugins, tick)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """The folder, of which this process alone may make something."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = self.folder.lock
            if not lock.try_acquire():
                raise UserError(f"another process runs the sweep in {self.path}", hints=("or choose another `--out`",))
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def _listed(self, planned: Plan) -> Feed:
        self.left_out = planned.left_out
        for note in planned.notes:
            self.note(note)
        for cell in planned.cells:
            self.jobs_of(cell)
        self._tell_changes()
        self.folder.write(self._known())
        known = sum(job.state == "known" for job in self.jobs)
        if known:
            self.note(f"{known} of {len(self.jobs)} runs are trained and measured already")
        return Listed(sorted(self.jobs, key=lambda job: self.sweep.seeds.index(job.seed)))  # all cells, then again

    def _searched(self) -> Feed:
        planner = Planner(self.sweep, self.options.plugins)
        if self.options.again:
            self.folder.begin_study_anew()
        feed = Searching(self.sweep, planner, self.folder.study, self.jobs_of, self.note, self._remember)
        changed = sorted(
            {
                part
                for before, cell in self.kept.values()
                for part in cell.identity.differences(Identity(**before.identity))
            }
        )
        if changed:
            self.note(
                f"the {' and the '.join(changed)} of {len(self.kept)} trials has changed since they ran; "
                "what they measured stays in the search, and `--again` begins it anew"
            )
        return feed

    def _remember(self, cell: Cell, otherwise: State) -> None:
        """Count the runs of a trial that ended earlier among the sweep's: as `sweep.json` has them, if it has changed.

        Args:
            cell: The trial's.
            otherwise: How runs ended that have not been measured.
        """
        before = self.before.cells.get(cell.name) if self.before is not None else None
        if before is not None and Identity(**before.identity) != cell.identity:
            self.kept[cell.name] = before, cell
            return
        for job in self.jobs_of(cell):
            if job.state == "waiting":
                job.state, job.reason = otherwise, job.trial.reason

    def _tell_changes(self) -> None:
        """Say which cells are others than when this sweep last ran, and why."""
        cells = self.before.cells if self.before is not None else {}
        changed: dict[str, list[str]] = {}
        for name, cell in self.cells.items():
            if name in cells:
                for part in cell.identity.differences(Identity(**cells[name].identity)):
                    changed.setdefault(part, []).append(name)
        for part, names in changed.items():
            whose = f"all {len(names)} cells" if len(names) == len(self.cells) else f"`{'`, `'.join(names)}`"
            self.note(
                f"the {part} of {whose} has changed since this sweep last ran: trained anew, as new cells; "
                "the runs of before are kept beside them"
            )

    # --- jobs -----------------------------------------------------------------------------------------------------

    def jobs_of(self, cell: Cell) -> list[Job]:
        """The runs of a cell, one a seed, their folders made ready."""
        self.cells[cell.name] = cell
        before = self.before.cells.get(cell.name) if self.before is not None else None
        if before is not None and before.parameters is not None and Identity(**before.identity) == cell.identity:
            self.costs[cell.name] = (before.parameters, before.flops_per_step)
        jobs = [self._job(cell, seed) for seed in self.sweep.seeds]
        self.jobs += [job for job in jobs if not any(job is known for known in self.jobs)]
        return jobs

    def _job_of(self, digest: str) -> Job | None:
        """Look for the run of a digest among those of this command."""
        return next((job for job in self.jobs if job.trial.path.name.endswith(digest)), None)

    def _job(self, cell: Cell, seed: int) -> Job:
        digest = cell.identity.of_seed(seed)
        own = self._job_of(digest)
        if own is not None:  # of a cell that computes the same, or that a search has drawn before
            return own
        trial = self.folder.trial(cell.name, seed, digest, again=self.options.again)
        trial.write(self._settings(cell, seed, digest), self._document(cell, seed))
        return Job(cell.name, seed, trial, "known" if trial.scores() is not None else "waiting")

    def _settings(self, cell: Cell, seed: int, digest: str) -> TrialSettings:
        options, budget = self.options, self.sweep.budget
        plugins = [word for plugin in options.plugins for word in ("--plugin", str(plugin.absolute()))]
        return TrialSettings(
            cell=cell.name,
            levels=dict(cell.levels),
            seed=seed,
            digest=digest,
            train=(*options.train, *plugins),
            evaluate=tuple(_measuring(self.sweep)),
            device=options.device,
            directory=str(Path.cwd()),
            environment=self._environment(),
            minutes=None if budget is None else budget.minutes,
            stage=cell.stage,
            gpus=max(1, int(options.resources.gpus)),
        )

    def _document(self, cell: Cell, seed: int) -> str:
        """The resolved blueprint of a run, with what tracking is told of it."""
        document, span = marked(cell.blueprint.document), Span("sweep", 0, 1, 2)
        root = document.root
        additions: dict[tuple[str, ...], str] = {
            (name,): text for name, text in tags_of(self.sweep, cell, seed).items()
        }
        if self.parent is not None:
            additions[("tracking", "parent")] = self.parent
            additions[("tracking", "experiment")] = tracking_of(cell.blueprint.check()).experiment or self.sweep.name
            additions[("tracking", "run_name")] = f"{cell.name}, seed {seed}"
        for path, text in additions.items():
            root = put(root, path, Entry(Scalar(path[-1], span), Scalar(text, span, "single")))
        return write(replace(document, root=root))

    def _environment(self) -> dict[str, str]:
        """Threads: cores shared among the runs of this machine, so that they do not stand in each other's way."""
        if "OMP_NUM_THREADS" in os.environ:
            return {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
        if self.options.on != "local":
            cpus = self.options.resources.cpus
            return {} if cpus is None else {"OMP_NUM_THREADS": str(max(1, int(cpus)))}
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (self.options.jobs or 1)))}

    def note_cells(self) -> None:
        """Write which cells there are, where that is not known beforehand: a search may be killed at any time."""
        if isinstance(self.sweep.design, Search):
            self.folder.write(self._known())

    def _known(self) -> KnownSweep:
        trials: dict[str, dict[str, str]] = {}
        for cell in self.cells.values():
            for seed in self.sweep.seeds:
                digest = cell.identity.of_seed(seed)
                job = self._job_of(digest)
                if job is not None:
                    trials.setdefault(cell.name, {})[str(seed)] = os.path.relpath(job.trial.path, self.path)
        sweep = self.sweep
        return KnownSweep(
            format=FORMAT,
            name=sweep.name,
            question=sweep.question,
            factors={factor.name: _levels(factor) for factor in sweep.factors},
            design=sweep.design.use if isinstance(sweep.design, Search) else sweep.design,
            seeds=list(sweep.seeds),
            budget=str(sweep.budget or ""),
            measure=sweep.measure.model_dump(mode="json"),
            cells={name: before for name, (before, _) in self.kept.items()}
            | {
                cell.name: KnownCell(
                    dict(cell.levels),
                    cell.words,
                    asdict(cell.identity),
                    trials.get(cell.name, {}),
                    *self.costs.get(cell.name, (None, {})),
                )
                for cell in self.cells.values()
            },
            left_out=list(self.left_out),
            evaluate=list(_measuring(sweep)),
            command=list(self.options.command),
            versions=versions(),
        )


def _levels(factor: Factor) -> list[str]:
    return [level.name for level in factor.levels] if factor.range is None else [str(factor.range)]


def _measuring(sweep: Sweep) -> Iterator[str]:
    """Words and options of `evaluate`."""
    measure = sweep.measure
    yield from measure.changes
    if measure.data is not None:
        yield from ("--data", measure.data)
    for task in measure.tasks or ():
        yield from ("--task", task)
    yield from ("--count", str(measure.count))


def tags_of(sweep: Sweep, cell: Cell, seed: int) -> Mapping[str, str]:
    """Tag a run for tracking, beside its blueprint: keys that begin with `x-` become tags."""
    factors = {f"{FACTOR}{name}": level for name, level in cell.levels.items()}
    return {"x-sweep": sweep.name, "x-cell": cell.name, "x-seed": str(seed), **factors}


@dataclass
class _Counting:
    """Counts parameters and FLOPs of a cell while its runs go on, for whoever else watches."""

    session: Session
    watching: Watching

    def changed(self, job: Job) -> None:
        self.watching.changed(job)
        self.session.note_cells()
        if job.state == "running" and job.cell not in self.session.costs:
            self.session.costs[job.cell] = self.session.cells[job.cell].cost()

    def tick(self, running: list[Job]) -> None:
        self.watching.tick(running)


def states(jobs: Sequence[Job]) -> dict[str, int]:
    """Count the runs in each state."""
    return {state: sum(job.state == state for job in jobs) for state in dict.fromkeys(job.state for job in jobs)}
