"""`compose-vlp track`: what a run recorded, and where it is."""

from __future__ import annotations

import typer

from compose_vlp.cli.console import out
from compose_vlp.cli.options import Run

EXAMPLES = (
    ("deliver what is still to be sent", "compose-vlp track sync runs/coca_tiny-1"),
    ("how to look at a run", "compose-vlp track look runs/coca_tiny-1"),
)

commands = typer.Typer(help="Send what a run recorded while its MLflow was away.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Send what a run recorded while its MLflow was away."""


@commands.command()
def sync(run: Run) -> None:
    """Bring everything that the run recorded to MLflow, each value once, however often this is repeated."""
    from compose_vlp.runtime.state.find_run import find_run
    from compose_vlp.tracking import sync as deliver

    out().print(deliver(find_run(run).path), soft_wrap=True)


@commands.command()
def look(run: Run) -> None:
    """Print the command that opens MLflow's pages on this run."""
    from compose_vlp.runtime.state.find_run import find_run
    from compose_vlp.tracking import how_to_look

    out().print(how_to_look(find_run(run).path), soft_wrap=True)
