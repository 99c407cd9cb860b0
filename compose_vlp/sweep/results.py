"""What came of a sweep, read from its folder: the study that a report is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compose_vlp.errors import UserError
from compose_vlp.report.recorded import cost_of, curves_of, curves_of_log, lines_of_log
from compose_vlp.report.trials import Cost, Study, Trial
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.sweep.folder import SWEEP_FILE, KnownCell, KnownSweep, SweepFolder, TrialFolder, read_json

LEFT_OUT = "left out of the design"


def is_sweep_folder(folder: Path) -> bool:
    """Is there a sweep in this folder?"""
    return (folder / SWEEP_FILE).is_file()


def runs_of(folder: Path) -> list[Path]:
    """List the folders of a sweep's runs, also of those that another sweep has trained.

    Raises:
        UserError: the sweep's file is damaged.
    """
    known = SweepFolder(folder).known()
    cells = known.cells.values() if known is not None else ()
    trials = dict.fromkeys(trial for cell in cells for trial in cell.trials.values())
    return [TrialFolder((folder / trial).resolve()).run for trial in trials]


def read_sweep(folder: Path) -> Study:
    """The cells, runs and scores of a sweep as they are now, those that lack something named with the reason.

    Raises:
        UserError: no sweep is there, or its files are damaged.
    """
    known = SweepFolder(folder).known()
    if known is None:
        hint = "`compose-vlp sweep FILE --out FOLDER` makes one"
        raise UserError(f"{folder} is no folder of a sweep: it has no {SWEEP_FILE}", hints=(hint,))
    trials: list[Trial] = []
    missing = dict.fromkeys(known.left_out, LEFT_OUT)
    for name, cell in known.cells.items():
        lacking = []
        for seed in known.seeds:
            trial = TrialFolder((folder / cell.trials[str(seed)]).resolve()) if str(seed) in cell.trials else None
            scores = trial.scores(known.evaluate) if trial is not None else None
            if trial is None or not scores:
                lacking.append(f"seed {seed} {_why(trial)}")
            else:
                trials.append(_trial(name, cell, seed, scores, trial))
        if lacking:
            missing[name] = "; ".join(lacking)
    base = next(iter(known.cells.values())).words if known.cells else ()
    changes = {name: _changes(cell, base) for name, cell in known.cells.items()}
    changes |= dict.fromkeys(known.left_out, "left out")
    return Study(
        name=known.name,
        question=known.question,
        factors=known.factors if known.design != "search" else {},
        baseline=next(iter(known.cells), ""),
        cells=changes,
        trials=trials,
        scores=tuple(known.measure.get("scores", ())),
        missing=missing,
        settings=dict(_settings(known)),
    )


def _trial(name: str, cell: KnownCell, seed: int, scores: Mapping[str, float], trial: TrialFolder) -> Trial:
    run = RunFolder.open(trial.run)
    curves = curves_of(run.path) or curves_of_log(run.path)
    return Trial(name, cell.levels, seed, scores, _cost(run, cell, trial), curves, run.path)


def _why(trial: TrialFolder | None) -> str:
    """Why a run has no scores."""
    if trial is None or not trial.run.exists():
        return f"failed: {trial.reason}" if trial is not None and trial.reason else "has not begun"
    status = (read_json(trial.run / "run.json") or {}).get("status", "")
    if trial.reason:
        return f"failed: {trial.reason}"
    return "is trained and not measured" if status == "FINISHED" else "is not trained to its end"


def _changes(cell: KnownCell, base: Sequence[str]) -> str:
    """Words of a command line that the baseline does not have."""
    return _line([word for word in cell.words if word not in base]) or "the baseline"


def _line(words: Sequence[str]) -> str:
    return " ".join(f"'{word}'" if re.search(r"[\s{\[\]}*~]", word) else word for word in words)


def _cost(run: RunFolder, cell: KnownCell, trial: TrialFolder) -> Cost:
    """Return what the run recorded, and its FLOPs: those of a step of each stage by the stage's steps."""
    recorded = cost_of(run)
    memory = recorded.memory or (read_json(trial.path / "memory.json") or {}).get("bytes")
    steps = {stage: last for stage, _, last, _ in lines_of_log(run.path)}
    flops = [each * steps[stage] for stage, each in cell.flops_per_step.items() if each is not None and stage in steps]
    counted = len(flops) == len(steps) and bool(flops)
    return Cost(recorded.parameters or cell.parameters, sum(flops) if counted else None, recorded.seconds, memory)


def _settings(known: KnownSweep) -> Iterator[tuple[str, str]]:
    measure = known.measure
    if known.cells:
        yield "baseline", _line(next(iter(known.cells.values())).words)
    yield "design", known.design.replace("_", " ")
    yield "seeds", ", ".join(map(str, known.seeds))
    if known.budget:
        yield "budget", f"{known.budget} for every run"
    what = ", ".join(measure.get("tasks") or ["all tasks that outputs and data allow"])
    where = f" on `{measure['data']}`" if measure.get("data") else ""
    changed = f" with {' '.join(measure['changes'])}" if measure.get("changes") else ""
    yield "measured", f"{what}{where}{changed}, {measure.get('count')} records at most"
    yield "versions", ", ".join(f"{name} {version}" for name, version in known.versions.items())
    yield "command", " ".join(known.command)
