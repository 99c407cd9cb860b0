"""`compose-vlp runs`: which runs there are, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json
from compose_vlp.readable import duration

EXAMPLES = (
    ("the latest runs", "compose-vlp runs --count 10"),
    ("those that came to something", "compose-vlp runs --where 'status=FINISHED and retrieval.mean_recall>0.5'"),
    ("with a setting of each", "compose-vlp runs --show losses.itm.weight --show retrieval.mean_recall"),
)
SCORES = 3
"""Scores that stand in the table where nobody asks for others."""


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

    rows = find_runs(folders or [Path("runs")])
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
    extra = list(show or scores)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for name in ("run", "blueprint", "status", "seed", "started", "steps", "time", *extra):
        table.add_column(
            name, overflow="fold", justify="right" if name in ("seed", "steps", "time", *extra) else "left"
        )
    for row in chosen:
        facts = row.facts
        took = duration(float(facts["seconds"])) if facts["seconds"] is not None else None
        named = [facts[name] for name in ("run", "blueprint", "status", "seed", "started", "steps")]
        table.add_row(*map(_text, [*named, took, *(row.value(name) for name in extra)]))
    out().print(table)


def _text(value: object) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
