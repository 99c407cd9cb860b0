"""`compose-vlp components`: the kinds that a blueprint can use, and what each wants and gives."""

from __future__ import annotations

import fnmatch
from typing import Annotated

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from compose_vlp import registry
from compose_vlp.cli import complete, kinds
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.help_text import flowing
from compose_vlp.cli.options import Json, Plugins, import_plugins
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.kinds import Kind

EXAMPLES = (
    ("every kind, with what it is", "compose-vlp components"),
    ("what `vit` can be set to, reads and gives", "compose-vlp components vit"),
    ("all kinds with `decoder` in their name", "compose-vlp components '*decoder*'"),
    ("those of a file of your own", "compose-vlp components --plugin mine.py 'my_*'"),
)


def command(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[NAME | PATTERN]",
            help="A kind's name, or a pattern with * and ?.",
            show_default=False,
            autocompletion=complete.kinds,
        ),
    ] = "*",
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """List the kinds of components, or explain one.

    A name prints its ports (what it reads), its settings with defaults and bounds, and what it gives.
    A pattern, or nothing, prints one line for each kind.
    """
    import_plugins(plugins)
    known = registry.names()
    if pattern in known:
        kind = registry.get(pattern)
        if as_json:
            print_json(kinds.kind_json(kind))
        else:
            _explain(kind, out())
        return
    names = fnmatch.filter(known, pattern)
    if not names:
        raise UserError(f"no kind is called {pattern!r}", hints=did_you_mean(pattern, known) or _all_of(known))
    if as_json:
        print_json([kinds.kind_json(registry.get(name)) for name in names])
    else:
        _list(names, out())


def _all_of(known: list[str]) -> tuple[str, ...]:
    return (f"kinds: {', '.join(known)}",)


def _list(names: list[str], console: Console) -> None:
    """One table a category; summaries come from the files' text, so that nothing is imported for a list."""
    lines = {name: kinds.line(name) for name in names}
    for category, title in kinds.CATEGORIES.items():
        rows = [(name, summary) for name, (of, summary) in lines.items() if of == category]
        if rows:
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title_justify="left")
            table.add_column(style="bold cyan", no_wrap=True)
            table.add_column()
            for name, summary in rows:
                table.add_row(name, summary)
            console.print(Text(title, style="bold"), Padding(table, (0, 0, 1, 2)))


def _explain(kind: Kind, console: Console) -> None:
    console.print(Group(*_page(kind)))


def _page(kind: Kind) -> list[RenderableType]:
    blocks: list[RenderableType] = [
        Text.assemble((kind.name, "bold cyan"), (f"  {kind.category}, {kind.source}", "dim")),
        Padding(Text(flowing(kind.doc)), (1, 0)),
    ]
    if kind.ports:
        blocks += [Text("Ports", style="bold"), _ports(kind), _gives(kind)]
    if kind.settings:
        blocks += [Text("Settings", style="bold"), _settings(kind)]
    if kind.parts:
        blocks += [Text("Parts that can be shared", style="bold"), Padding(Text(", ".join(kind.parts)), (0, 0, 1, 2))]
    if kind.traits.auxiliary:
        blocks += [Text("Losses of its own", style="bold"), Padding(Text(kinds.own_losses(kind)), (0, 0, 1, 2))]
    if kind.category == "component" and (held := kinds.promises(kind.traits)):
        promised = Text("\n".join(held), style="dim")
        blocks += [Text("What the compiler may rely on", style="bold"), Padding(promised, (0, 0, 1, 2))]
    return blocks


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, style="cyan" if number == 0 else "", overflow="fold", no_wrap=number == 0)
    return table


def _ports(kind: Kind) -> Padding:
    table = _table("port", "takes", "positions reach", "if left out")
    for port in kind.ports.values():
        takes = " or ".join(kinds.takes(port)) + (", several" if port.several else "")
        reach = "no gradient" if port.detached else port.flow.name.lower() if port.accepts else ""
        absent = "any names" if port.open else "must be given" if port.required else kinds.written(port.default)
        table.add_row(f"{port.name}=..." if port.open else port.name, takes, reach, absent)
    return Padding(table, (0, 0, 0, 2))


def _gives(kind: Kind) -> Padding:
    gives = kinds.gives(kind.returns)
    if isinstance(gives, dict):
        return Padding(Text("gives " + ", ".join(f".{name}: {what}" for name, what in gives.items())), (0, 0, 1, 2))
    return Padding(Text(f"gives {gives}"), (0, 0, 1, 2))


def _settings(kind: Kind) -> Padding:
    table = _table("setting", "type, default, bounds", "what it is")
    for setting in kind.settings.values():
        limits = kinds.bounds(setting)
        form = Text.assemble(
            kinds.type_of(setting), ("\n" + kinds.default(setting), "dim"), (f", {limits}" if limits else "", "dim")
        )
        table.add_row(setting.name, form, setting.description)
    return Padding(table, (0, 0, 0, 2))
