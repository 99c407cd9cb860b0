"""`compose-vlp check`: every mistake of a blueprint, without building anything."""

from __future__ import annotations

import typer

from compose_vlp.cli import problems
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.guard import MISTAKE
from compose_vlp.cli.options import Json, Plugins, Verbose, Words, load, print_notes
from compose_vlp.errors import BlueprintError
from compose_vlp.readable import several

EXAMPLES = (
    ("a built-in blueprint", "compose-vlp check coca"),
    ("a file of your own with two changes", "compose-vlp check mine.yaml components.vision.depth=6 alpha=0"),
)


def command(words: Words, plugins: Plugins = None, verbose: Verbose = False, as_json: Json = False) -> None:
    """Find every mistake of a blueprint before anything is built.

    Reads, merges and checks names, types, bounds, shapes, rows, flow of positions, leaks, and that every loss reaches
    something to train. Prints all mistakes at once, each with its place, and ends with exit code 2 if there are any.
    """
    blueprint = load(words, plugins)
    try:
        checked = blueprint.check()
    except BlueprintError as error:
        if not as_json:
            raise
        print_json({"ok": False, "name": blueprint.name, "problems": problems.as_json(error.problems)})
        raise typer.Exit(MISTAKE) from None
    notes = [*blueprint.notes, *checked.notes]
    if as_json:
        print_json({"ok": True, "name": blueprint.name, "problems": [], "notes": notes})
        return
    print_notes(notes, verbose=verbose)
    counted = ", ".join(
        several(number, noun)
        for number, noun in (
            (len(checked.components), "component"),
            (len(checked.values), "value"),
            (checked.plan.counted(), "call"),
        )
    )
    out().print(f"{blueprint.name}: no mistakes ({counted})")
