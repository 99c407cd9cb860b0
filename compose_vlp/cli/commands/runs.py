"""`compose-vlp runs`: which runs there are, and what came of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, print_note
from compose_vlp.readable import duration, several

if TYPE_CHECKING:
    from compose_vlp.report.runs import RunRow

EXAMPLES = (
    ("the latest runs", "compose-vlp runs --count 10"),
    ("those that came to something", "compose-vlp runs --where 'status=FINISHED and retrieval.mean_recall>0.5'"),
    ("with a setting of each", "compose-vlp runs --show losses.itm.weight --show retrieval.mean_recall"),
)
SCORES = 3
"""Scores that stand in the table where nobody asks for others."""
UNMEASURED = "scores"
"""The column of what was not measured, where no run in the table was."""
NOT_MEASURED = "not measured"
_ANY_WIDTH = 10_000
"""Columns in which a table is measured as if nothing bounded it."""


def command(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Where to look; runs/ if left out.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="CONDITION", help="Only runs that fulfil it: facts, scores and settings."),
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option("--show", metavar="NAME", help="A column: a fact, a score or a setting; several times."),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="At most so many, the latest.")] = None,
    as_json: Json = False,
) -> None:
    """List trained runs with their scores, the latest first.

    Conditions compare facts (blueprint, status, seed, started, seconds, steps, run), scores by task and name, and
    settings of the blueprint by path, and are joined by `and`, `or`, `not` and parentheses.
    """
    from compose_vlp.report.runs import find_runs
    from compose_vlp.report.where import know, select

    rows = find_runs(folders or [Path("runs")], print_note)
    know(rows, show or ())
    chosen = select(rows, where) if where is not None else rows
    chosen = chosen[:count]
    if as_json:
        columns = [{name: row.value(name) for name in show or ()} for row in chosen]
        print_json([{**row.as_json(), **own} for row, own in zip(chosen, columns, strict=True)])
        return
    if not chosen:
        out().print("no runs" + (f", of {len(rows)}, fulfil it" if where is not None and rows else ""))
        return
    scores = list(dict.fromkeys(name for row in chosen for name in row.scores))[:SCORES]
    extra = list(show or scores or [UNMEASURED])
    measured = {UNMEASURED, *(name for row in rows for name in row.scores)}
    table = _table(chosen, extra, measured)
    console = out()
    if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
        console.print(table)
        return
    for row in chosen:
        console.print(_block(row, extra, measured), soft_wrap=True)


def _table(rows: Sequence[RunRow], extra: Sequence[str], measured: Collection[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for name in ("run", "blueprint", "status", "seed", "started", "steps", "time", *extra):
        table.add_column(name, no_wrap=True, justify="right" if name in ("seed", "steps", "time", *extra) else "left")
    for row in rows:
        named = [row.facts[name] for name in ("run", "blueprint", "status", "seed", "started", "steps")]
        table.add_row(*map(_text, [*named, _time(row)]), *_values(row, extra, measured))
    return table


def _values(row: RunRow, names: Sequence[str], measured: Collection[str]) -> list[str]:
    """Write what columns say of a run; of one without any, once, that it was not measured.

    `measured` are the columns that are scores.
    """
    values = [_text(row.value(name)) for name in names]
    if row.scores:
        return values
    missing = [place for place, name in enumerate(names) if name in measured and row.value(name) is None]
    for place in missing:
        values[place] = NOT_MEASURED if place == missing[0] else ""
    return values


def _block(row: RunRow, extra: Sequence[str], measured: Collection[str]) -> str:
    """Write a run as lines, for a terminal that the table does not fit: its folder stays whole, to be copied."""
    facts = row.facts
    about = [facts["blueprint"], facts["status"], f"seed {facts['seed']}", facts["started"]]
    about += [several(int(facts["steps"]), "step")] if facts["steps"] is not None else []
    about += [_time(row)] if facts["seconds"] is not None else []
    columns = zip(extra, _values(row, extra, measured), strict=True)
    values = [f"  {text if text == NOT_MEASURED else f'{name} {text}'}" for name, text in columns if text]
    return "\n".join([str(facts["run"]), f"  {', '.join(map(str, about))}", *values])


def _time(row: RunRow) -> str | None:
    seconds = row.facts["seconds"]
    return None if seconds is None else duration(float(seconds))


def _text(value: object) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
