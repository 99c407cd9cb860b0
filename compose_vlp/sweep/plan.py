"""From a sweep to its cells: each resolved and checked before the first is trained, its mistakes told once, at their
places in the sweep's file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.blueprint.write import write
from compose_vlp.errors import BlueprintError, Problem, Span, did_you_mean
from compose_vlp.sweep.designs import Levels, baseline_of, combinations_of, name_of, omitted
from compose_vlp.sweep.document import Budget, Factor, Search, Sweep
from compose_vlp.sweep.identity import Identity, identity, meanings
from compose_vlp.sweep.words import Word, at_their_words, layered, split

SAID = 3
"""Cells that a mistake names, where many have it."""


@dataclass(frozen=True)
class Cell:
    """One combination of levels, ready to be trained.

    Attributes:
        name: The levels in which it is not the baseline.
        levels: The level of each factor.
        words: The command line that means the same.
        blueprint: Resolved, without mistakes, with absolute paths.
        identity: What it computes.
        stage: The stage that the budget is of; None where there is no budget.
    """

    name: str
    levels: Levels
    words: tuple[str, ...]
    blueprint: Blueprint = field(repr=False)
    identity: Identity
    stage: str | None = None

    def cost(self) -> tuple[int | None, dict[str, float | None]]:
        """Parameters of the model, and FLOPs of a step of each stage; None where they cannot be counted."""
        stages = list(self.blueprint.check().stages)
        parameters = int(self.blueprint.report(stages[0] if stages else None).parameters["total"])
        return parameters, {stage: _flops_of_step(self.blueprint, stage) for stage in stages}


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep, the baseline first; `left_out` are the names of those that are not to be trained."""

    sweep: Sweep
    cells: tuple[Cell, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan(sweep: Sweep, plugins: Sequence[Path] = (), tick: Callable[[str], None] = lambda _: None) -> Plan:
    """All cells of a sweep whose design is known beforehand.

    `tick` is told the name of each cell before it is looked at.

    Raises:
        BlueprintError: every mistake of every cell, each once; factors whose levels make the same model.
        UserError: a plugin that cannot be used.
    """
    planner = Planner(sweep, plugins)
    cells = []
    for levels in combinations_of(sweep):
        tick(name_of(sweep, levels))
        cell = planner.cell(levels, name_of(sweep, levels), planner.words_of(levels))
        if cell is not None:
            cells.append(cell)
    if not planner.problems:
        planner.judge_factors(cells)
    planner.raise_problems()
    left_out = tuple(name_of(sweep, levels) for levels in omitted(sweep))
    return Plan(sweep, tuple(cells), left_out, tuple(_notes(sweep, cells)))


class Planner:
    """Makes cells of levels, and keeps the mistakes of all."""

    def __init__(self, sweep: Sweep, plugins: Sequence[Path] = ()) -> None:
        self.sweep = sweep
        self.plugins = plugins
        self.problems: dict[Problem, list[Levels]] = {}
        self._lines: dict[str, Sequence[str]] = dict(sweep.lines)
        self._judge_base()
        self._judge_scores()

    def words_of(self, levels: Levels) -> list[Word]:
        """The base with the levels' changes over it."""
        chosen = [factor.level(levels[factor.name]) for factor in self.sweep.factors]
        return layered(self.sweep.base, [word for level in chosen if level is not None for word in level.words])

    def cell(self, levels: Levels, name: str, words: Sequence[Word]) -> Cell | None:
        """The cell of these words; None where it has mistakes, which are kept."""
        try:
            blueprint, stage, words = self._within_budget(words)
            blueprint.check()
        except BlueprintError as error:
            self._keep(error, words, levels)
            return None
        self._judge_measure(blueprint, levels)
        self._judge_changes(blueprint, levels)
        budget = self.sweep.budget
        minutes = f"{budget.minutes:g} minutes" if budget is not None and budget.minutes is not None else ""
        known = identity(blueprint, minutes)
        return Cell(name, levels, tuple(word.text for word in words), blueprint, known, stage)

    def load(self, words: Sequence[Word]) -> Blueprint:
        """The blueprint of these words, with absolute paths.

        Raises:
            BlueprintError: words that cannot be read or laid over each other.
        """
        names, overrides = split(words)
        loaded = Blueprint.load(
            *(word.text for word in names), overrides=[word.text for word in overrides], plugins=self.plugins
        )
        return loaded.anchored()

    def raise_problems(self) -> None:
        """Raise what was kept, each mistake with the cells that have it.

        Raises:
            BlueprintError: these mistakes.
        """
        if self.problems:
            raise BlueprintError([self._of_cells(*kept) for kept in self.problems.items()], self._lines)

    def _of_cells(self, problem: Problem, cells: Sequence[Levels]) -> Problem:
        """A problem that says which cells have it; of one that stands in another file, also the first cell's levels."""
        if not cells:
            return problem
        known = list(dict.fromkeys(self._name(levels) for levels in cells))
        more = f" and {len(known) - SAID} more" if len(known) > SAID else ""
        message = f"{problem.message} (cell{'s'[: len(known) > 1]} {'; '.join(known[:SAID])}{more})"
        related = problem.related
        if problem.span is None or problem.span.file not in self.sweep.lines:
            levels = [(factor, factor.level(cells[0][factor.name])) for factor in self.sweep.factors if factor.levels]
            changing = [level for factor, level in levels if level is not None and level is not factor.levels[0]]
            related += tuple(("with this level", level.span) for level in changing)
        return replace(problem, message=message, related=related)

    def _name(self, levels: Levels) -> str:
        if any(factor.range is not None for factor in self.sweep.factors):
            return ", ".join(f"{factor}={level}" for factor, level in levels.items())
        return name_of(self.sweep, levels)

    def judge_factors(self, cells: Sequence[Cell]) -> None:
        """Refuse factors two of whose levels make one model wherever they are exchanged."""
        models = {tuple(sorted(cell.levels.items())): cell.identity.blueprint for cell in cells}
        baseline = baseline_of(self.sweep.factors)
        for factor in self.sweep.factors:
            first = factor.levels[0]
            for level in factor.levels[1:]:
                pairs = [
                    (models.get(tuple(sorted({**cell.levels, factor.name: first.name}.items()))), cell)
                    for cell in cells
                    if cell.levels[factor.name] == level.name
                ]
                matched = [(model, cell) for model, cell in pairs if model is not None]
                alike = all(model == cell.identity.blueprint for model, cell in matched)
                if alike and (matched or self._alike_alone(baseline, factor, level.name)):
                    self._refuse(
                        f"factor `{factor.name}`: `{first.name}` and `{level.name}` make the same model",
                        level.span,
                        "an effect of nothing cannot be measured: leave it out, or change something in it",
                        related=(("the other level", first.span),),
                    )

    def _alike_alone(self, baseline: Levels, factor: Factor, level: str) -> bool:
        """Do two levels make one model where all other factors are the baseline's?"""
        first, other = (
            self.load(self.words_of({**baseline, factor.name: name})) for name in (baseline[factor.name], level)
        )
        return meanings(first.document) == meanings(other.document)

    # --- budget and measure ---------------------------------------------------------------------------------------

    def _within_budget(self, words: Sequence[Word]) -> tuple[Blueprint, str | None, list[Word]]:
        """The blueprint with the length that the budget gives its stage."""
        budget, words = self.sweep.budget, list(words)
        loaded = self.load(words)
        if budget is None or not loaded.document.stages.names:
            loaded.raise_problems()
            return loaded, None, words
        stage = self._stage(budget, loaded.document.stages.names)
        if budget.steps is not None:
            words.append(self._length(budget.steps, stage, "steps"))
            return self.load(words), stage, words
        if budget.flops is not None:
            each = _flops_of_step(loaded, stage)
            if each is None:
                raise self._error(
                    f"FLOPs of stage `{stage}` cannot be counted", "budget.flops", "give steps or minutes"
                )
            steps = int(budget.flops // each)
            if steps < 1:
                message = f"one step of stage `{stage}` takes {each:g} FLOPs, more than the budget of {budget.flops:g}"
                raise self._error(message, "budget.flops", f"10,000 steps take {1e4 * each:.3g}")
            words.append(self._length(steps, stage, "flops"))
            return self.load(words), stage, words
        return loaded, stage, words

    def _stage(self, budget: Budget, stages: Sequence[str]) -> str:
        """The stage of a cell that the budget is of."""
        if budget.stage is None and len(stages) == 1:
            return stages[0]
        known = ", ".join(stages)
        if budget.stage is None:
            message = f"the blueprint has several stages, {known}: the budget says of which it is"
            raise self._error(message, "budget", f"`stage: {stages[0]}`; the others keep their lengths")
        names = (budget.stage,) if isinstance(budget.stage, str) else budget.stage
        own = next((name for name in names if name in stages), None)
        if own is None:
            hints = did_you_mean(names[0], stages) or (f"stages: {known}",)
            raise self._error(
                f"no stage is called {' or '.join(f'`{name}`' for name in names)}", "budget.stage", *hints
            )
        return own

    def _length(self, steps: int, stage: str, key: str) -> Word:
        """The override that gives a stage its length, at the budget's place."""
        span = self.sweep.span(f"budget.{key}", "budget") or Span("budget", 1, 1, 2)
        text = f"stages.{stage}.length={steps} steps"
        return Word(text, ((0, Scalar("", span)),))

    def _judge_measure(self, blueprint: Blueprint, levels: Levels) -> None:
        """Refuse what cannot be measured of this cell."""
        from compose_vlp.evaluation.results import TASKS

        measure, checked = self.sweep.measure, blueprint.check()
        changed = {change.removeprefix("+").split(".")[1] for change in measure.changes if _adds_data(change)}
        sources = {*checked.document.data.names, *changed}
        if measure.data is not None and measure.data not in sources:
            hints = did_you_mean(measure.data, sources) or (f"data: {', '.join(sorted(sources))}",)
            self._refuse(f"no data source is called `{measure.data}`", self._at("measure.data"), *hints, levels=levels)
        for task in measure.tasks or ():
            missing = [output for output in TASKS[task] if output not in checked.outputs]
            if missing:
                message = f"`{task}` asks for the output{'s'[: len(missing) > 1]} {' and '.join(missing)}"
                hint = f"outputs: {', '.join(checked.outputs)}; or leave the cell out"
                self._refuse(f"{message}, which there is not", self._at("measure.tasks"), hint, levels=levels)

    def _judge_changes(self, blueprint: Blueprint, levels: Levels) -> None:
        """Refuse changes for measuring that this cell cannot take: `evaluate` lays them over it when it is resolved."""
        if not self.sweep.measure.changes:
            return
        span = self._at("measure.changes") or Span("measure", 1, 1, 2)
        with tempfile.TemporaryDirectory() as folder:
            resolved = Path(folder) / "blueprint.yaml"
            resolved.write_text(write(blueprint.document), encoding="utf-8")
            texts = (str(resolved), *self.sweep.measure.changes)
            words = [Word(text, ((0, Scalar("", span)),)) for text in texts]
            try:
                self.load(words).check()
            except BlueprintError as error:
                self._keep(error, words, levels)

    def _judge_base(self) -> None:
        """Refuse changes of the base that no cell reads, since every level of a factor makes another."""
        for word in self.sweep.base:
            for factor in self.sweep.factors if word.is_override else ():
                replaced = [any(own.changes == word.changes for own in level.words) for level in factor.levels]
                if all(replaced) if replaced else factor.key.text == word.changes:
                    self._refuse(
                        f"no cell reads `{word.text}`: factor `{factor.name}` sets `{word.changes}` in all of them",
                        word.place(),
                        "leave it out, or name its value as the factor's first level",
                        related=(("the factor", factor.key.span),),
                    )

    def _judge_scores(self) -> None:
        """Refuse names of scores that no task gives, or none of those that are measured."""
        from compose_vlp.evaluation.results import SCORES, is_score

        measure, design = self.sweep.measure, self.sweep.design
        goal = [("design.objective", design.objective)] if isinstance(design, Search) else []
        known = [f"{task}.{name}" for task in measure.tasks or SCORES for name in SCORES[task]]
        for key, name in [*(("measure.scores", name) for name in measure.scores), *goal]:
            if not is_score(name):
                hints = did_you_mean(name, known) or (f"scores: {', '.join(known)}",)
                self._refuse(f"no task gives the score `{name}`", self._at(key), *hints)
            elif measure.tasks is not None and key == "measure.scores" and name.partition(".")[0] not in measure.tasks:
                hint = f"tasks: {', '.join(measure.tasks)}"
                self._refuse(f"`{name}` is of a task that is not measured", self._at(key), hint)

    def _at(self, key: str) -> Span | None:
        return self.sweep.span(key, key.split(".", maxsplit=1)[0], "sweep")

    def _error(self, message: str, key: str, *hints: str) -> BlueprintError:
        return BlueprintError([Problem(message, self._at(key), hints)])

    def _refuse(
        self,
        message: str,
        span: Span | None,
        *hints: str,
        related: tuple[tuple[str, Span], ...] = (),
        levels: Levels | None = None,
    ) -> None:
        cells = self.problems.setdefault(Problem(message, span, hints, related), [])
        cells += [levels] if levels is not None else []

    def _keep(self, error: BlueprintError, words: Sequence[Word], levels: Levels) -> None:
        for problem in at_their_words(error.problems, words):
            self.problems.setdefault(problem, []).append(levels)
        self._lines = {**error.excerpts, **self._lines}


def _adds_data(change: str) -> bool:
    return change.startswith("+data.")


def _flops_of_step(blueprint: Blueprint, stage: str) -> float | None:
    from compose_vlp.runtime.stage import plan_stage

    batch = plan_stage(blueprint.check(), stage).batch
    step = blueprint.report(stage, batch=batch).flops["step"]
    return None if step is None else float(step)


def _notes(sweep: Sweep, cells: Sequence[Cell]) -> list[str]:
    """Cells that compute the same, and are trained once."""
    first: dict[Identity, Cell] = {}
    notes = []
    for cell in cells:
        other = first.setdefault(cell.identity, cell)
        if other is not cell:
            notes.append(f"cells `{other.name}` and `{cell.name}` make the same model: it is trained once")
    if len(sweep.seeds) == 1:
        notes.append("one seed: no interval can be given, and no difference told from noise; `seeds: 3` or more")
    return notes
