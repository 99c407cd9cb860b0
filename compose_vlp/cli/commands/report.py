"""`compose-vlp report`: what a sweep found, as tables, plots and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compose_vlp.cli.commands.compare import Scores, show
from compose_vlp.cli.console import err
from compose_vlp.cli.options import Json, Verbose
from compose_vlp.errors import UserError

EXAMPLES = (
    ("of a sweep, by its name or folder", "compose-vlp report albef_parts"),
    ("by one score, for scripts", "compose-vlp report runs/sweep-albef_parts --score retrieval.mean_recall --json"),
)
FOLDER = "report"
"""Within the sweep's folder."""
LACKING = 3
"""Cells whose reasons are told where none has a score."""


def command(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's folder or name.", show_default=False)],
    scores: Scores = None,
    path: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write here; `report/` in the sweep's folder if left out."),
    ] = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Report a sweep: differences, effects, cost, as a page.

    May be called while the sweep still runs, and then says what is missing. Writes a page that needs no other file, the
    tables as Markdown, LaTeX and CSV, and the plots; where the sweep is in MLflow, they are stored with it there.
    """
    from compose_vlp.report.summary import summarise
    from compose_vlp.report.write import write_report
    from compose_vlp.sweep.results import LEFT_OUT, read_sweep

    folder = find_sweep(sweep)
    study = read_sweep(folder)
    if not study.trials:
        lacking = [f"{cell}: {reason}" for cell, reason in study.missing.items() if reason != LEFT_OUT]
        hint = "the sweep's command again trains and measures what is missing"
        raise UserError(f"{study.name}: no run has been measured", hints=(*lacking[:LACKING], hint))
    summary = summarise(study, scores or ())
    files = write_report(summary, path or folder / FOLDER)
    show(summary, as_json=as_json, chosen=bool(scores or study.scores), verbose=verbose)
    err().print(f"Report: {files[0]}", soft_wrap=True)
    if path is None:
        _track(folder, files)


def find_sweep(sweep: str) -> Path:
    """Find the folder of a sweep that is named by its folder, or by its name.

    Raises:
        UserError: there is no such sweep; those that are there are named.
    """
    from compose_vlp.sweep.results import is_sweep_folder

    name = Path(sweep).name.removesuffix(".yaml").removesuffix(".yml")  # a name may have dots: `v1.5`
    for folder in (Path(sweep), Path("runs") / f"sweep-{name}"):
        if is_sweep_folder(folder):
            return folder
    known = [str(folder) for folder in sorted(Path("runs").glob("sweep-*")) if is_sweep_folder(folder)]
    hint = f"sweeps here: {', '.join(known)}" if known else "`compose-vlp sweep FILE` makes one below runs/"
    raise UserError(f"no sweep {sweep!r}", hints=(hint,))


def _track(folder: Path, files: list[Path]) -> None:
    """Send the report to the sweep's run in MLflow, where there is one and the sweep is not at work."""
    from compose_vlp.tracking import add_to_run
    from compose_vlp.tracking.layout import TrackFolder

    if not TrackFolder(folder).writer_lock.is_held():
        left = add_to_run(folder, {}, 0, {f"{FOLDER}/{file.name}": file for file in files}, "FINISHED")
        if left:
            err().print(f"note: {left}", style="dim", soft_wrap=True)
