"""`compose-vlp verify`: the proof that a port gives the original's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.guard import FAILED
from compose_vlp.cli.options import Device, Json, named

if TYPE_CHECKING:
    from compose_vlp.interop.comparison import Comparison

EXAMPLES = (
    ("a recorded step of open_clip's CoCa", "compose-vlp verify oracles/coca --format open_clip_coca"),
    ("every single comparison, for a script", "compose-vlp verify oracles/coca --format open_clip_coca --json"),
)
MOST = 20
"""So many failures are listed; `--json` has all."""


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="What another implementation recorded: weights, inputs, outputs.", show_default=False
        ),
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="The implementation's format.", show_default=False)
    ],
    device: Device = "cpu",
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="PASS", help="Leave out a compiler's pass; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove that a port gives the same numbers as the original.

    Takes the folder of a recorded step: derives the blueprint from its `config.json`, imports the weights, replays
    inputs and recorded draws, and compares outputs, losses, gradients and the state after the step. Exit code 1 when
    anything is out of tolerance or was not compared.
    """
    from compose_vlp.interop.verify import verify
    from compose_vlp.runtime.device import choose_device

    comparison = verify(folder, form, device=choose_device(named(device)), without=without or ())
    if as_json:
        print_json(comparison.as_json())
    else:
        show(comparison)
    if not comparison.passed:
        raise typer.Exit(FAILED)


def show(comparison: Comparison) -> None:
    """Print a line for each sort of number, then what failed."""
    console = out()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("", "compared", "passed", "largest error"):
        table.add_column(heading, justify="right" if heading else "left", style="" if heading else "cyan")
    for kind, counts in comparison.summary().items():
        style = "" if counts["passed"] >= counts["compared"] else "red"
        table.add_row(
            kind, str(counts["compared"]), str(counts["passed"]), f"{counts['largest_error']:.1e}", style=style
        )
    console.print(table)
    for row in comparison.failures[:MOST]:
        error = f"{row.error:.2e}, allowed {row.allowed:.2e}" if row.error is not None and row.allowed else ""
        console.print(
            Text(f"  ✗ {row.kind} {row.name}: {'; '.join(part for part in (row.note, error) if part)}", style="red")
        )
    if len(comparison.failures) > MOST:
        console.print(f"  and {len(comparison.failures) - MOST} more (--json lists all)")
    if comparison.by_floor:
        console.print(
            f"{len(comparison.by_floor)} gradients are 0 but for rounding, and pass by the floor alone:", style="dim"
        )
        for row in comparison.by_floor[:MOST]:
            console.print(f"  {row.name}", style="dim")
        if len(comparison.by_floor) > MOST:
            console.print(f"  and {len(comparison.by_floor) - MOST} more (--json lists all)", style="dim")
    verdict = ("the same numbers", "bold green") if comparison.passed else ("not the same", "bold red")
    console.print(Text(*verdict))
