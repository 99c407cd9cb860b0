"""The arguments that commands share, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.arguments import split_arguments
from compose_vlp.cli import complete
from compose_vlp.cli.console import err
from compose_vlp.errors import UserError
from compose_vlp.runtime.limits import HIGHEST_SEED

if TYPE_CHECKING:
    from compose_vlp.plugins import Plugin
    from compose_vlp.run import Run as LoadedRun


def words_argument() -> Any:
    """Blueprints and changes, mixed as they come."""
    return typer.Argument(
        metavar="BLUEPRINT|CHANGE",
        help="Blueprints by name (coca, tasks/vqa_generate) or file, later ones over earlier ones; and changes: "
        r"'path=value' sets, '+path={...}' adds, '~path' removes. Use single quotes.",
        show_default=False,
        autocompletion=complete.words,
    )


Words = Annotated[list[str], words_argument()]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="Also import the kinds of this file; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=HIGHEST_SEED, help="Where all random choices start.")]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; auto takes the fastest there is."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FOLDER", help="Write here; a new folder under runs/ if left out.", show_default=False
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's folder, or its MLflow run id.",
        show_default=False,
        autocompletion=complete.runs,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print notes in full.")]
NoTrack = Annotated[bool, typer.Option("--no-track", help="Do not log to MLflow.")]


@dataclass(frozen=True)
class Request:
    """What a command is to work on: blueprints in the order of merging, and overrides in the order written."""

    blueprints: tuple[str, ...]
    overrides: tuple[str, ...]


def load(words: Sequence[str], plugins: Sequence[Path | Plugin] | None = None) -> Blueprint:
    """Load the blueprint that a command line speaks of.

    Raises:
        UserError: no blueprint among the words, or a plugin that cannot be used.
    """
    request = sort_words(words)
    return Blueprint.load(*request.blueprints, overrides=request.overrides, plugins=plugins or ())


def load_run(
    run: str, plugins: Sequence[Path] | None, device: str, overrides: Sequence[str] | None = None
) -> LoadedRun:
    """Load the trained model that a command line speaks of; say where its plugins are other than they were."""
    from compose_vlp.run import load as load_trained

    return load_trained(run, overrides=overrides or (), device=named(device), plugins=plugins or (), note=print_note)


def print_note(text: str) -> None:
    """Print a note on standard error."""
    err().print(f"note: {text}", style="dim", soft_wrap=True)


NAMES = 4
"""Names of a list that a note prints, where nobody asks for all of them."""


def in_brief(note: str, *, verbose: bool) -> str:
    """Cut a note's last list of names after the first few, unless it is to be verbose."""
    head, mark, names = note.rpartition(": ")
    listed = names.split(", ")
    return note if any(" " in name for name in listed) else f"{head}{mark}{_some(listed, verbose=verbose)}"


def _some(names: Sequence[str], *, verbose: bool) -> str:
    if verbose or len(names) <= NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES])} and {len(names) - NAMES} more (--verbose names them)"


def print_names(what: str, names: Sequence[str], *, verbose: bool) -> None:
    """Print a note that lists names, whatever stands in them: the first few, unless it is to be verbose."""
    print_note(f"{what}: {_some(names, verbose=verbose)}")


def print_notes(notes: Iterable[str], *, verbose: bool) -> None:
    """Print notes on standard error, one line each."""
    for note in notes:
        print_note(in_brief(note, verbose=verbose))


def named(device: str) -> str | None:
    """Return the device as the API takes it: None chooses."""
    return None if device == "auto" else device


def sort_words(words: Sequence[str]) -> Request:
    """Sort the words of a command line into blueprints and changes.

    Raises:
        UserError: no blueprint.
    """
    blueprints, overrides = split_arguments(words)
    if not blueprints:
        addition = f": {overrides[0]!r} is a change" if overrides else ""
        raise UserError(
            f"no blueprint is named{addition}",
            hints=("a blueprint's name or file comes first, as in `compose-vlp check albef alpha=0`",),
        )
    return Request(tuple(blueprints), tuple(overrides))


def import_plugins(plugins: Sequence[Path] | None) -> None:
    """Import files that declare kinds, and the packages installed here that offer some."""
    from compose_vlp.plugins import load_entry_points, loaded_from

    load_entry_points()
    loaded_from(plugins or ())
