"""`compose-vlp reproduce`: a run trained again, and held against itself."""

from __future__ import annotations

import sys

import typer

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, NoTrack, Out, Plugins, Run, print_note

EXAMPLES = (
    ("train a run again and compare", "compose-vlp reproduce runs/coca_tiny-1"),
    ("into a folder, for scripts", "compose-vlp reproduce runs/coca_tiny-1 --out again --json"),
)
SHOWN = 5
"""Metrics that are told where runs differ, the furthest apart."""


def command(
    run: Run, path: Out = None, plugins: Plugins = None, no_track: NoTrack = False, as_json: Json = False
) -> None:
    """Train a finished run again and compare what comes of it.

    Blueprint, plugins, seed and options are those of the run's folder; whatever has changed since (versions, threads,
    device, data) is named. On the same machine with the same versions, weights and metrics come out identical. Exits
    with 1 where they do not.
    """
    from compose_vlp.cli.progress import TrainProgress
    from compose_vlp.report.reproduce import reproduce
    from compose_vlp.runtime.state.find_run import find_run

    with TrainProgress() as progress:
        result = reproduce(
            find_run(run),
            out=path,
            track=not no_track,
            plugins=tuple(plugins or ()),
            listener=progress,
            command=sys.argv,
            note=print_note,
        )
    if as_json:
        print_json(result.as_json())
    else:
        out().print(f"Trained again: {result.again}", soft_wrap=True)
        weights = "identical, bit for bit" if result.same_weights else "other than they were"
        metrics = f"{sum(metric.first is None for metric in result.metrics)} of {len(result.metrics)} metrics identical"
        out().print(f"Weights {weights}; {metrics if result.metrics else 'no curves to compare'}", soft_wrap=True)
        for metric in result.metrics[:SHOWN]:
            if metric.first is not None:
                out().print(f"  {metric.name}: apart from step {metric.first} on, by {metric.largest:.2%} at most")
    if not result.identical:
        raise typer.Exit(1)
