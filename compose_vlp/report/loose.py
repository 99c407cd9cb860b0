"""Loose runs as a study: runs that differ in their seed alone are one cell, the first run's cell is the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from compose_vlp.blueprint.diff import Change, diff
from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.trees import dotted
from compose_vlp.errors import UserError
from compose_vlp.loading import LoadedBlueprint
from compose_vlp.report.recorded import cost_of, curves_of
from compose_vlp.report.trials import Study, Trial
from compose_vlp.runtime.state.new_folder import RUN_FILE
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.scores import Measurement, read_scores

Place: TypeAlias = tuple[str, tuple[str, ...]]
"""What a task was measured on: an entry of data, and how it was changed for it."""

_NO_NUMBERS = "tracking"
"""The section that says where a run is recorded: it differs between seeds of one cell of a sweep."""
_DESCRIBED = 8
"""Changes that a cell's description lists; how many more there are is said."""
_SETS_APART = 3
"""Changes that a cell's name may hold; a cell with more is named by its blueprint."""


def study_of(runs: Sequence[RunFolder]) -> Study:
    """Gather loose runs into a study.

    Raises:
        UserError: fewer than two runs, one twice, or a folder without a blueprint.
    """
    if len(runs) < 2:
        raise UserError("one run is nothing to compare", hints=("name two or more, the baseline first",))
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise UserError(f"{next(path for path in paths if paths.count(path) > 1)} is named twice")
    documents = [_document(run.path) for run in runs]
    cells: list[list[int]] = []
    for place in range(len(runs)):
        same = next((cell for cell in cells if not _differences(documents[cell[0]], documents[place])), None)
        if same is None:
            cells.append([place])
        else:
            same.append(place)
    changes = [_differences(documents[0], documents[cell[0]]) for cell in cells]
    names = _names([documents[cell[0]].name for cell in cells], changes, [runs[cell[0]].path for cell in cells])
    measured = [read_scores(run) for run in runs]
    trials = []
    for name, cell in zip(names, cells, strict=True):
        seeds = [runs[place].info.seed for place in cell]
        if len(set(seeds)) < len(seeds):
            twice = ", ".join(str(runs[place].path) for place in cell)
            raise UserError(f"{twice}: the same blueprint and the same seed, so that they are one experiment")
        trials += [
            Trial(
                name,
                {},
                runs[place].info.seed,
                _scores(measured[place], measured),
                cost_of(runs[place]),
                curves_of(runs[place].path),
                runs[place].path,
            )
            for place in cell
        ]
    descriptions = ["the baseline", *map(_description, changes[1:])]
    missing: dict[str, str] = {}
    for trial in trials:
        if not trial.scores:
            before = f"{missing[trial.cell]}; " if trial.cell in missing else ""
            missing[trial.cell] = f"{before}{trial.folder} has not been measured"
    owners = {place: name for name, cell in zip(names, cells, strict=True) for place in cell}
    notes = _unequal([owners[place] for place in range(len(runs))], runs, measured)
    described = dict(zip(names, descriptions, strict=True))
    return Study("comparison", "", {}, names[0], described, trials, missing=missing, notes=notes)


def other_seeds(run: RunFolder) -> list[RunFolder]:
    """List the finished runs beside it, or in its sweep, that differ from it in their seed alone, by seed.

    One that was trained for another number of steps is none of them; of two with one seed the latest stands.
    """
    in_sweep = run.path.name == "run" and run.path.parent.parent.name == "trials"
    around, below = (run.path.parent.parent, f"*/run/{RUN_FILE}") if in_sweep else (run.path.parent, f"*/{RUN_FILE}")
    own, steps, by_seed = _document(run.path), _steps(run), dict[int, RunFolder]()
    for file in sorted(around.glob(below), key=lambda file: file.stat().st_mtime):
        with suppress(UserError):
            other = RunFolder.open(file.parent)
            alike = (other.info.blueprint, other.info.status, _steps(other)) == (run.info.blueprint, "FINISHED", steps)
            if alike and other.info.seed != run.info.seed and not _differences(own, _document(other.path)):
                by_seed[other.info.seed] = other
    return [by_seed[seed] for seed in sorted(by_seed)]


def _steps(run: RunFolder) -> int:
    return sum(stage["steps"] for stage in run.info.extra.get("stages", {}).values())


def _unequal(cells: Sequence[str], runs: Sequence[RunFolder], measured: Sequence[Sequence[Measurement]]) -> list[str]:
    """Say in what runs were not treated alike: steps of training, what they were measured on, and how much of it."""
    tasks = dict.fromkeys(item.task for own in measured for item in own)
    on = {f"{task} was measured on other data": [_places(own, task) for own in measured] for task in tasks}
    records = {
        f"{task} was measured on other numbers of records": [
            ", ".join(f"{item.records:,}" for item in own if item.task == task) for own in measured
        ]
        for task in tasks
    }
    stages = [run.info.extra.get("stages", {}).values() for run in runs]
    steps = [f"{sum(stage['steps'] for stage in own):,}" if own else "" for own in stages]
    notes = []
    for what, values in {"trained for other numbers of steps": steps, **on, **records}.items():
        by_value: dict[str, list[str]] = {}
        for cell, value in zip(cells, values, strict=True):
            if value:
                by_value.setdefault(value, []).append(cell)
        if len(by_value) > 1:
            parts = (f"{value} ({', '.join(dict.fromkeys(owners))})" for value, owners in by_value.items())
            notes.append(f"{what}: {'; '.join(parts)}")
    return notes


def _places(measured: Sequence[Measurement], task: str) -> str:
    """Name what a task was measured on."""
    return ", ".join(sorted(" ".join([item.data, *item.changes]) for item in measured if item.task == task))


def _document(folder: Path) -> Document:
    file = folder / "blueprint.yaml"
    if not file.is_file():
        raise UserError(f"{folder} has no blueprint.yaml, by which it could be compared")
    blueprint = LoadedBlueprint.load(file)
    return blueprint.document


def _differences(before: Document, after: Document) -> list[Change]:
    """List what differs in model, data or training; where a run is recorded does not count."""
    return [change for change in diff(before, after) if change.path[0] != _NO_NUMBERS]


def _description(changes: Sequence[Change]) -> str:
    listed = [_short(change) for change in changes[:_DESCRIBED]]
    more = len(changes) - len(listed)
    return "; ".join([*listed, *([f"{more} more, which `compose-vlp diff` lists"] if more else [])])


def _names(blueprints: Sequence[str], changes: Sequence[Sequence[Change]], folders: Sequence[Path]) -> list[str]:
    """Name cells by their blueprint or what sets them apart from the first; by their first run's folder, where the
    names of several are the same."""
    names = [blueprints[0]]
    for blueprint, own in zip(blueprints[1:], changes[1:], strict=True):
        names.append(", ".join(map(_word, own)) if len(own) <= _SETS_APART else blueprint)
    for calls in ([folder.name for folder in folders], [str(folder) for folder in folders]):
        names = [call if names.count(name) > 1 else name for name, call in zip(names, calls, strict=True)]
    return names


def _word(change: Change) -> str:
    """Write a change as an override does, without its place."""
    if change.after is None:
        return f"~{dotted(change.path)}"
    return f"{'+' if change.before is None else ''}{dotted(change.path)}={change.after}"


def _short(change: Change) -> str:
    before = "" if change.before is None else f" instead of {change.before}"
    return f"{_word(change)}{before}" if change.after is not None else f"without {dotted(change.path)}"


def _scores(own: Sequence[Measurement], measured: Sequence[Sequence[Measurement]]) -> Mapping[str, float]:
    """Name scores by their task, and by what it was measured on where runs were measured on several things."""
    places: dict[str, set[Place]] = {}
    for measurement in (item for run in measured for item in run):
        places.setdefault(measurement.task, set()).add((measurement.data, measurement.changes))
    scores: dict[str, float] = {}
    for measurement in own:
        where = (
            "" if len(places[measurement.task]) == 1 else f" on {' '.join([measurement.data, *measurement.changes])}"
        )
        scores |= {f"{name}{where}": value for name, value in measurement.named().items()}
    return scores
