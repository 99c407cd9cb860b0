"""`compose-vlp verify`: one recorded step of another implementation, run again and compared number by number."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Device, Json

if TYPE_CHECKING:
    from compose_vlp.interop.comparison import Comparison, Row

EXAMPLES = (
    ("compare a folder of any size", "compose-vlp verify oracles/coca/pretrain --format open_clip_coca"),
    ("every number, for scripts", "compose-vlp verify oracles/coca/pretrain --format open_clip_coca --json"),
)
SHOWN = 20


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="config.json, and safetensors of weights, inputs, outputs.", show_default=False
        ),
    ],
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="Whose names and settings the folder uses.")],
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Prove that a port gives the same numbers as the original.

    Imports the folder's weights, runs its step with its inputs and recorded draws, and compares every value, loss,
    gradient, generated text and next state that the folder holds. What was not compared has failed.

    Exit code 1 where anything is out of tolerance.
    """
    from compose_vlp.interop.verify import verify
    from compose_vlp.runtime.device import choose_device

    found = verify(folder, form, device=choose_device(None if device == "auto" else device))
    if as_json:
        print_json(found.as_json())
    else:
        _print(found, out())
    if not found.passed:
        raise typer.Exit(1)


def _print(found: Comparison, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("what", "in the folder", "within tolerance", "largest error", "allowed"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for kind, one in found.summary().items():
        total = sum(row.kind == kind for row in found.rows)
        allowed = next((row.allowed for row in found.rows if row.kind == kind and row.allowed), None)
        error = f"{one['largest_error']:.1e}" if allowed else f"{one['largest_error']:.0f}"
        limit = f"{allowed:.0e}" if allowed else "equal"
        table.add_row(kind, str(total), str(one["passed"]), error, limit)
    console.print(table)
    for title, rows in (("out of tolerance", found.failures), ("within tolerance by the floor alone", found.by_floor)):
        if rows:
            console.print(Text(f"{title} ({len(rows)}):", style="bold red" if rows == found.failures else "bold"))
            console.print("\n".join(f"  {_line(row)}" for row in rows[:SHOWN]))
            if len(rows) > SHOWN:
                console.print(f"  and {len(rows) - SHOWN} more (--json lists all)")
    verdict = "The same numbers." if found.passed else "Not the same numbers."
    console.print(Text(verdict, style="bold green" if found.passed else "bold red"))


def _line(row: Row) -> str:
    error = "" if row.error is None else f"error {row.error:.2e}"
    return "  ".join(filter(None, (row.kind, row.name, error, row.note)))
