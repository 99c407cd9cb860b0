"""`compose-vlp bench`: how fast a step of a blueprint is on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Device, Json, Plugins, Verbose, Words, load, named, print_notes

EXAMPLES = (
    ("a small ALBEF, on this machine", "compose-vlp bench tiny/albef"),
    ("fewer rows and steps, of another stage", "compose-vlp bench tiny/vlmo --stage pairs --batch 8 --rounds 3"),
)


def command(
    words: Words,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="NAME", help="Time this stage; the first if left out.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Rows of a step; the stage's own if left out.")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Steps of each program that are timed, after one that warms up.")
    ] = 5,
    plugins: Plugins = None,
    device: Device = "auto",
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Time whole optimiser steps here, with and without passes.

    Forward, backward, clipping, AdamW and teachers, on rows that are made up. The compiled program and the one without
    passes take turns, so that both meet the machine in the same moods. Work is counted from shapes, and set beside what
    a large matrix product reaches here.
    """
    from compose_vlp.bench import bench
    from compose_vlp.runtime.device import choose_device

    blueprint = load(words, plugins)
    checked = blueprint.check()
    print_notes((*blueprint.notes, *checked.notes), verbose=verbose)
    measured = bench(checked, stage=stage, batch=batch, rounds=rounds, device=choose_device(named(device)))
    if as_json:
        print_json(measured.as_json())
    else:
        out().print(measured.text())
