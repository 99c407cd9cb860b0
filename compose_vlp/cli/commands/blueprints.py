"""`compose-vlp blueprints`: the models, tasks, hybrids and sweeps that come with the program."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from compose_vlp.cli import complete
from compose_vlp.cli.console import err, out, print_json
from compose_vlp.cli.options import Json
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.library import GROUPS, Listing, extending, listings
from compose_vlp.readable import count

EXAMPLES = (
    ("every model, task, hybrid and sweep", "compose-vlp blueprints"),
    ("those of one paper", "compose-vlp blueprints '*vlmo*'"),
    ("one of them: its header, size and relatives", "compose-vlp blueprints tiny/albef"),
    ("and which tasks fit it, each tried by `check`", "compose-vlp blueprints tiny/albef --tasks"),
)


def command(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[NAME | PATTERN]",
            help="A blueprint's name, or a pattern with * and ?.",
            show_default=False,
            autocompletion=complete.library,
        ),
    ] = "*",
    tasks: Annotated[bool, typer.Option("--tasks", help="Try which tasks fit the named model; takes seconds.")] = False,
    as_json: Json = False,
) -> None:
    """List the built-in blueprints, or tell of one.

    A name prints what its header says, its parameters, what it extends and what extends it.
    A pattern, or nothing, prints one line for each.
    """
    known = {entry.name: entry for entry in listings()}
    if pattern in known:
        _tell(known[pattern], tasks=tasks, as_json=as_json)
        return
    names = fnmatch.filter(known, pattern)
    if not names:
        raise UserError(
            f"no blueprint is called {pattern!r}",
            hints=did_you_mean(pattern, known) or ["`compose-vlp blueprints` lists them"],
        )
    if tasks:
        raise UserError("`--tasks` tries the tasks over one model", hints=[f"name it: {', '.join(names[:3])}"])
    if as_json:
        print_json([known[name].as_json() for name in names])
    else:
        _list([known[name] for name in names])


def _list(entries: list[Listing]) -> None:
    width = max(len(entry.name) for entry in entries)
    for group, title in GROUPS.items():
        rows = [entry for entry in entries if entry.group == group]
        if rows:
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
            table.add_column(style="bold cyan", no_wrap=True, min_width=min(width, 30))
            table.add_column()
            for entry in rows:
                table.add_row(entry.name, entry.settings.get("title") or entry.summary)
            out().print(Text(title, style="bold"), Padding(table, (0, 0, 1, 2)))


def _tell(entry: Listing, *, tasks: bool, as_json: bool) -> None:
    about: dict[str, Any] = entry.as_json() | {"extended_by": extending(entry.name)}
    if entry.is_model:
        about["parameters"] = _parameters(entry.name)
    if tasks:
        about["tasks"] = dict(_fits(entry))
    if as_json:
        print_json(about | {"header": entry.header})
        return
    console = out()
    console.print(Text(entry.name, style="bold cyan"), "")
    console.print(Text(entry.header), "", soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    rows = {
        "paper": about["paper"],
        "parameters": count(about["parameters"]) if entry.is_model else None,
        "extends": ", ".join(about["extends"]),
        "extended by": ", ".join(about["extended_by"]),
    }
    for label, value in rows.items():
        if value:
            table.add_row(label, value)
    for name, lack in about.get("tasks", {}).items():
        table.add_row(name, "fits" if lack is None else Text(lack, style="dim"))
    console.print(table)


def _parameters(name: str) -> int:
    """Count all parameters that a blueprint holds, on the meta device."""
    from compose_vlp.api import Blueprint
    from compose_vlp.compiler.model import build

    return sum(build(Blueprint.load(name).check(), "meta").component_parameters().values())


def _fits(entry: Listing) -> Iterator[tuple[str, str | None]]:
    """Lay every task over a model; give the first thing that it lacks, or None where it fits.

    Raises:
        UserError: it is a task or a sweep itself.
    """
    from compose_vlp.api import Blueprint
    from compose_vlp.errors import BlueprintError

    if not entry.is_model:
        raise UserError(f"{entry.name} is no model", hints=["name a model: albef, tiny/coca, ..."])
    names = [each.name for each in listings() if each.group == "tasks"]
    with err().status("", spinner="dots") as status:
        for name in names:
            status.update(f"trying {name}")
            try:
                Blueprint.load(entry.name, name).check()
            except BlueprintError as error:
                yield name, error.problems[0].message
            else:
                yield name, None
