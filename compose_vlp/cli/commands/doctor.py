"""`compose-vlp doctor`: what this machine offers, which backends run on it and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json

if TYPE_CHECKING:
    from compose_vlp.doctor import Finding

EXAMPLES = (
    ("a table for people", "compose-vlp doctor"),
    ("the same for a script, or a report of a fault", "compose-vlp doctor --json"),
)

_COLOURS = {"fine": "green", "note": "yellow", "wrong": "red"}


def command(as_json: Json = False) -> None:
    """Say what this machine offers and which backends run on it.

    Prints versions, devices, the attention backend that `auto` takes on each device and why, whether each backend
    gives the right numbers here, memory, disk, and where runs are tracked. Exit code 1 when something is wrong that
    will stop a run.
    """
    import typer

    from compose_vlp.doctor import as_text

    findings = list(examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console = out()
        for finding, text in zip(findings, as_text(findings, console.width), strict=True):
            line = Text(text)
            line.stylize(_COLOURS[finding.state], 0, 1)
            console.print(line, soft_wrap=True)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Find what is installed, what runs here, and where runs are tracked."""
    from compose_vlp import doctor
    from compose_vlp.tracking import versions

    elsewhere = ("python", "torch", "tokenizers", "xformers")  # more of them is said below
    for name, version in versions().items():
        if name not in elsewhere:
            yield doctor.Finding(name, version)
    yield from doctor.examine(Path.cwd())
    yield _tracking()


def _tracking() -> Finding:
    """Find where runs are recorded, and whether that can be written."""
    from compose_vlp.doctor import Finding
    from compose_vlp.tracking import TrackSettings
    from compose_vlp.tracking.reach import why_unreachable

    uri = TrackSettings(experiment="", run_name="").resolved_uri()
    problem = why_unreachable(uri)
    # Training goes on while the store is away: what it is told waits on the disk.
    return Finding("tracking", uri, problem or "can be reached", "note" if problem else "fine")
