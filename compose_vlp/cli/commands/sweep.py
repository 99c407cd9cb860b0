"""`compose-vlp sweep`: one question, asked of a blueprint with its parts exchanged."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose_vlp.cli.console import err, out, print_json
from compose_vlp.cli.guard import FAILED
from compose_vlp.cli.options import Device, Json, NoTrack, Out, Plugins, print_note
from compose_vlp.errors import Stopped, UserError

if TYPE_CHECKING:
    from rich.table import Table

    from compose_vlp.sweep.document import Sweep
    from compose_vlp.sweep.running import Job
    from compose_vlp.sweep.session import Session

EXAMPLES = (
    (
        "is the matching loss worth its time? three seeds each",
        "compose-vlp sweep tiny/albef --vary 'losses.itm.weight=1|0' --seeds 3",
    ),
    ("a file that says it all, two runs at a time", "compose-vlp sweep sweeps/albef_parts --jobs 2"),
    (
        "a learning rate by search",
        (
            "compose-vlp sweep tiny/coca --vary 'optimizer.lr=log(1e-4, 1e-2)' --trials 20 "
            "--objective retrieval.text_to_image_recall_at_1"
        ),
    ),
    ("what would be trained, and is it right?", "compose-vlp sweep sweeps/albef_parts --dry-run"),
)


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP|BLUEPRINT|CHANGE",
            help="A sweep's file or name; or a blueprint with changes, of which `--vary` says what is exchanged.",
            show_default=False,
        ),
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="PATH=A|B", help="A path and its values, the baseline's first; may be repeated."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Runs of each cell, with the seeds 0, 1, ...")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Runs at a time; if left out, one here, all on a cluster.")
    ] = None,
    on: Annotated[str, typer.Option("--on", metavar="PLACE", help="local, ray, ray://HOST:PORT or slurm.")] = "local",
    design: Annotated[
        str | None,
        typer.Option("--design", metavar="DESIGN", help="grid, one_at_a_time or fraction (of resolution V)."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of each run, the same for all.")] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", metavar="TASK", help="Measure the runs by this task; may be repeated.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="NAME", help="Measure on this entry of `data`.")] = None,
    count: Annotated[int | None, typer.Option("--count", min=2, help="Measure on so many records.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Cells that a search draws.")] = None,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="SCORE", help="The score that a search maximises.")
    ] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="How often a run that failed is tried again.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Train again what has been trained already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all cells and list them; train nothing.")] = False,
    cpus: Annotated[float | None, typer.Option("--cpus", min=0, help="Cores of a run, on a cluster.")] = None,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="GPUs of a run, on a cluster; 0.5 is half of one.")] = 0,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of Slurm's: partition=gpu.")
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=1, help="Steps between checkpoints, where a stage does not say.")
    ] = 500,
    path: Out = None,
    device: Device = "auto",
    plugins: Plugins = None,
    no_track: NoTrack = False,
    as_json: Json = False,
) -> None:
    """Train a blueprint with parts exchanged, fairly, seed by seed.

    Every cell of the design is checked before the first is trained. Runs of one seed see the same records in the same
    order, begin with the same weights in the parts that they share, and have the same budget. Each is a process of its
    own; if one fails, that is reported, and the others go on. The same command again continues where it was stopped
    or killed, and trains nothing twice.
    """
    from compose_vlp.sweep.engines import Resources, read_options
    from compose_vlp.sweep.session import Options, Session

    given = {"vary": vary, "design": design, "steps": steps, "task": tasks, "data": data, "count": count}
    given |= {"trials": trials, "objective": objective}
    sweep = _sweep(words, seeds, {name: value for name, value in given.items() if value is not None})
    options = Options(
        out=path,
        jobs=jobs,
        on=on,
        resources=Resources(cpus, gpus, read_options(option or ())),
        retries=retries,
        again=again,
        device=device,
        plugins=tuple(plugins or ()),
        track=not no_track,
        train=("--checkpoint-every", str(checkpoint_every), *(("--no-track",) if no_track else ())),
        command=tuple(sys.argv),
    )
    session = Session(sweep, options, print_note)
    if dry_run:
        _list(session, as_json=as_json)
        return
    stopped = _run(session)
    _tell_unsent(session)
    if as_json:
        print_json(_as_json(session))
    else:
        _sum_up(session)
    if stopped:
        print_note("stopped: what was running is saved; the same command goes on")
        raise Stopped(stopped)
    if any(job.state == "failed" for job in session.jobs):
        raise typer.Exit(FAILED)


def _run(session: Session) -> int:
    """Run it under a table; gives the signal that stopped it, or 0."""
    from compose_vlp.cli.sweep_table import SweepTable
    from compose_vlp.runtime.training.stopping import Stopping

    console = err()
    scores = session.sweep.measure.scores
    with Stopping(speaks=False) as stopping, SweepTable(console, session.jobs, scores[0] if scores else None) as table:
        with stopping.patiently():
            session.run(table, lambda: stopping.asked)
        return stopping.asked


def _tell_unsent(session: Session) -> None:
    """Say how many runs have records that MLflow lacks: what they said of it themselves stands in their logs."""
    from compose_vlp.tracking.layout import TrackFolder
    from compose_vlp.tracking.remains import remains

    unsent = sum(remains(TrackFolder(job.trial.run)) is not None for job in session.jobs)
    if unsent and session.options.track:
        command = f"compose-vlp track sync {shlex.quote(str(session.path))}"
        print_note(f"not all that {unsent} of {len(session.jobs)} runs recorded is in MLflow; send it with: {command}")


def _sweep(words: Sequence[str], seeds: int | None, given: dict[str, Any]) -> Sweep:
    from dataclasses import replace

    from compose_vlp.sweep.reading import find_sweep, read_sweep_file

    file = find_sweep(words[0]) if len(words) == 1 else None
    if file is None:
        return _of_words(words, seeds or 1, given)
    if given:
        options = ", ".join(f"`--{name}`" for name in given)
        raise UserError(f"{words[0]} is a sweep and says itself what {options} would", hints=("change the file",))
    sweep = read_sweep_file(file)
    return sweep if seeds is None else replace(sweep, seeds=tuple(range(seeds)))


def _of_words(words: Sequence[str], seeds: int, given: dict[str, Any]) -> Sweep:
    """Make the sweep of a command line; named by blueprint and digest, so that the same command finds it."""
    from compose_vlp.blueprint.arguments import split_arguments
    from compose_vlp.sweep.reading import sweep_of_words

    names, _ = split_arguments(words)
    if not names or "vary" not in given:
        hint = "compose-vlp sweep tiny/albef --vary 'alpha=0.4|0'"
        raise UserError("nothing is varied" if names else "no blueprint is named", hints=(hint,))
    digest = hashlib.sha256(repr((words, given)).encode()).hexdigest()[:6]
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', Path(names[-1]).stem)}-{digest}"
    return sweep_of_words(words, given.pop("vary"), name=name, seeds=tuple(range(seeds)), options=given)


def _list(session: Session, *, as_json: bool) -> None:
    planned = session.planned(lambda _: None)
    if as_json:
        cells = [{"name": cell.name, "levels": dict(cell.levels), "words": list(cell.words)} for cell in planned.cells]
        print_json({"sweep": session.sweep.name, "cells": cells, "left_out": list(planned.left_out)})
        return
    for note in planned.notes:
        print_note(note)
    for cell in planned.cells:
        out().print(cell.name, soft_wrap=True)
    for name in planned.left_out:
        out().print(f"{name}  (left out)", style="dim", soft_wrap=True)
    seeds = len(session.sweep.seeds)
    out().print(f"{len(planned.cells)} cells, {seeds} seed{'s'[: seeds > 1]} each; no mistakes", soft_wrap=True)


def _sum_up(session: Session) -> None:
    from compose_vlp.sweep.session import states

    names = _shown_scores(session)
    console = out()
    unbounded = console.options.update(max_width=10_000)
    while len(names) > 1 and not session.sweep.measure.scores:
        if console.measure(_results(session, names), options=unbounded).maximum <= console.width:
            break
        names.pop()
    console.print(_results(session, names))
    out().print(", ".join(f"{count} {state}" for state, count in states(session.jobs).items()), soft_wrap=True)
    out().print(f"The sweep: {session.path}", soft_wrap=True)
    out().print(f"Report it: compose-vlp report {shlex.quote(str(session.path))}", soft_wrap=True)


def _results(session: Session, names: Sequence[str]) -> Table:
    """Tabulate how each run ended; names that are too long are folded, never cut."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("cell", "seed", "", *names):
        table.add_column(name, overflow="fold")
    for job in session.jobs:
        scores = job.trial.scores() or {}
        table.add_row(
            job.cell, str(job.seed), job.state, *(f"{scores[name]:.4f}" if name in scores else "" for name in names)
        )
    return table


SHOWN = 4
"""Scores that the last table shows at most, where nobody says which; fewer where the terminal is narrow."""


def _shown_scores(session: Session) -> list[str]:
    if session.sweep.measure.scores:
        return list(session.sweep.measure.scores)
    known = dict.fromkeys(name for job in session.jobs for name in job.trial.scores() or {})
    return list(known)[:SHOWN]


def _as_json(session: Session) -> dict[str, Any]:
    return {
        "sweep": session.sweep.name,
        "folder": str(session.path),
        "cells": {name: dict(cell.levels) for name, cell in session.cells.items()},
        "left_out": list(session.left_out),
        "runs": [_job_json(job) for job in session.jobs],
    }


def _job_json(job: Job) -> dict[str, Any]:
    return {
        "cell": job.cell,
        "seed": job.seed,
        "state": job.state,
        "run": str(job.trial.run),
        "scores": job.trial.scores(),
        **({"reason": job.reason} if job.reason else {}),
    }
