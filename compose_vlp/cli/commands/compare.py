"""`compose-vlp compare`: loose runs beside each other, with what differs in their blueprints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from compose_vlp.cli.console import err, out, print_json
from compose_vlp.cli.options import Json, Verbose, print_names, print_notes

if TYPE_CHECKING:
    from pandas import DataFrame

    from compose_vlp.report.summary import Summary

EXAMPLES = (
    ("two runs", "compose-vlp compare runs/with-teacher runs/without"),
    ("several seeds of each, by one score", "compose-vlp compare runs/a-* runs/b-* --score retrieval.mean_recall"),
    ("as a page, with tables and plots", "compose-vlp compare runs/a-* runs/b-* --out reports/a-and-b"),
)

_ANY_WIDTH = 10_000
"""Columns in which a table is measured as if nothing bounded it."""

Scores = Annotated[
    list[str] | None,
    typer.Option(
        "--score",
        metavar="NAME",
        help="Report this score; several times, the main one first. Left out: all in files, and here one of each task.",
    ),
]


def command(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders or MLflow run ids, the baseline first.", show_default=False),
    ],
    scores: Scores = None,
    path: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Also write a page here, with tables and plots."),
    ] = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Compare trained runs: scores, differences, cost, settings.

    Runs whose blueprints mean the same are seeds of one cell, wherever they are tracked. Differences are taken seed by
    seed where both cells have the seed. The scores are those that `evaluate`, a sweep or a stage measured.
    """
    from compose_vlp.report.loose import study_of
    from compose_vlp.report.summary import summarise
    from compose_vlp.runtime.state.find_run import find_run

    summary = summarise(study_of([find_run(run) for run in runs]), scores or ())
    show(summary, as_json=as_json, chosen=bool(scores), verbose=verbose)
    if path is not None:
        from compose_vlp.report.write import write_report

        files = write_report(summary, path)
        err().print(f"Report: {files[0]}", soft_wrap=True)


def show(summary: Summary, *, as_json: bool, chosen: bool, verbose: bool) -> None:
    """Print a summary's tables, or all its numbers; of scores that nobody has `chosen` the main one of each task."""
    from compose_vlp.report import tables
    from compose_vlp.report.main_scores import main_scores

    if as_json:
        print_json(tables.as_json(summary))
        return
    names = [own.score for own in summary.scores]
    main = names if chosen else main_scores(names)
    shown = [own for own in summary.scores if own.score in main]
    for own in shown:
        out().print(own.score, style="bold")
        _print(tables.cell_table(summary, own))
        if own.effects:
            _print(tables.effect_table(own.effects))
    _print(tables.cost_table(summary))
    others = [own.score for own in summary.scores if own not in shown]
    if others:
        print_names("`--score NAME` shows one that was measured too", others, verbose=verbose)
    print_notes(summary.notes, verbose=verbose)


def _print(frame: DataFrame) -> None:
    """Print a table; where it is wider than the terminal, its last column, which is words, as lines below it."""
    console, whole = out(), _table(frame)
    if console.measure(whole, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
        console.print(whole)
        return
    last = frame.columns[-1]
    console.print(_table(frame.drop(columns=last)))
    for name, words in zip(frame.iloc[:, 0], frame[last], strict=True):
        if words:
            console.print(f"  {name}: {words}", soft_wrap=True)


def _table(frame: DataFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for name in frame.columns:
        table.add_column(str(name), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    return table
