"""`compose-vlp --help`: from the table of commands, because importing typer takes half of the time allowed."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from compose_vlp.cli.console import out
from compose_vlp.cli.table import COMMANDS, PROGRAM, Entry

OPTIONS = (
    ("--help, -h", "Show this page; after a command, that command's own."),
    ("--version, -V", "Show the version."),
    ("--quiet, -q", "After any command: results and mistakes, no notes, no progress."),
    ("--install-completion", "Complete commands, blueprints, settings, runs."),
    ("--show-completion", "Print what --install-completion would install."),
)
FIRST_STEPS = (
    ("demo", "train a small CoCa here, and see what it learnt"),
    ("build coca", "parameters, shapes, FLOPs of the 2.1B CoCa"),
    ("train tiny/albef alpha=0", "a blueprint with one value changed"),
)


def show() -> None:
    """Print the help of the whole program."""
    out().print(Group(*_blocks()))


def _blocks() -> Iterator[RenderableType]:
    yield Padding(Text.assemble(("Usage: ", "yellow"), (f"{PROGRAM} COMMAND [ARGUMENTS]", "bold")), (1, 1))
    yield Padding(Text("Vision-language pretraining as typed, checked and compiled blueprints."), (0, 1, 1, 1))
    width = max(len(entry.name) for entry in COMMANDS)
    for panel in dict.fromkeys(entry.panel for entry in COMMANDS):
        yield _panel(panel, [entry for entry in COMMANDS if entry.panel == panel], width)
    yield _rows("Options", [(Text(name, "bold cyan"), Text(text)) for name, text in OPTIONS])
    yield _rows("First steps", [(Text(f"{PROGRAM} {line}", "green"), Text(why, "dim")) for line, why in FIRST_STEPS])


def _panel(title: str, entries: list[Entry], width: int) -> Panel:
    return _rows(title, [(Text(f"{e.name:<{width}}", "bold cyan"), Text(e.summary)) for e in entries])


def _rows(title: str, rows: list[tuple[Text, Text]]) -> Panel:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for left, right in rows:
        table.add_row(left, right)
    return Panel(table, title=title, title_align="left", border_style="dim", box=box.ROUNDED)
