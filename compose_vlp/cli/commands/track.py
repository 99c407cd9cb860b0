"""`compose-vlp track`: what a run recorded, and where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compose_vlp.cli import complete
from compose_vlp.cli.console import out

EXAMPLES = (
    ("deliver what is still to be sent", "compose-vlp track sync runs/coca_tiny-1"),
    ("of a sweep and of all its runs", "compose-vlp track sync runs/sweep-teacher"),
    ("how to look at a run", "compose-vlp track look runs/coca_tiny-1"),
)

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN|SWEEP",
        help="A run's folder, or its MLflow run id; or a sweep's folder.",
        show_default=False,
        autocompletion=complete.runs,
    ),
]

commands = typer.Typer(help="Send what a run recorded while its MLflow was away.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Send what a run recorded while its MLflow was away."""


@commands.command()
def sync(run: Run) -> None:
    """Bring all that a run recorded to MLflow, each value once.

    It may be repeated as often as one likes. Of a sweep, all runs are sent with it.
    """
    from compose_vlp.tracking import sync as deliver

    for folder in _tracked(run):
        out().print(deliver(folder), soft_wrap=True)


@commands.command()
def look(run: Run) -> None:
    """Print the command that opens MLflow's pages on this run."""
    from compose_vlp.tracking import how_to_look

    out().print(how_to_look(next(_tracked(run))), soft_wrap=True)


def _tracked(run: str) -> Iterator[Path]:
    """Yield the folder of a run; of a sweep its own, and those of its runs that were tracked."""
    from compose_vlp.runtime.state.find_run import find_run
    from compose_vlp.sweep.results import is_sweep_folder, runs_of
    from compose_vlp.tracking.layout import TrackFolder

    if not is_sweep_folder(Path(run)):
        yield find_run(run).path
        return
    yield Path(run)
    yield from (folder for folder in runs_of(Path(run)) if TrackFolder(folder).read_target() is not None)
