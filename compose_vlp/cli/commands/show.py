"""`compose-vlp show`: the merged blueprint, with where each value came from."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, Plugins, Verbose, Words, load, print_notes

EXAMPLES = (
    ("the 2.1B CoCa", "compose-vlp show coca"),
    ("what a small sibling changes, and what stays", "compose-vlp show tiny/coca"),
    ("with a change, every default, and inferred sizes", "compose-vlp show coca inputs.image.size=576 --full"),
    ("as a file that reads back to the same", "compose-vlp show coca > mine.yaml"),
)
COLUMN = 80  # where comments begin, as `blueprint.write` has it


def command(
    words: Words,
    full: Annotated[bool, typer.Option("--full", help="Also defaults, and sizes that follow from the graph.")] = False,
    plugins: Plugins = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Print a blueprint as merged, with where each value came from.

    The comment after a value names the file and line that wrote it, and what it replaced. What is printed is a
    blueprint again. `--full` checks the blueprint first, and says `default` or `inferred` where no file has the value.
    """
    from compose_vlp.blueprint.show import as_data
    from compose_vlp.blueprint.write import lines

    blueprint = load(words, plugins)
    blueprint.raise_problems()
    document = blueprint.document
    if full:
        from compose_vlp.graph.checking.filled import filled

        document = filled(blueprint.check())
    if as_json:
        print_json(as_data(document))
        return
    print_notes(blueprint.notes, verbose=verbose)
    console = out()
    console.print(Text(f"# resolved from {', '.join(document.files)}", style="dim"), soft_wrap=True)
    for line in lines(document):
        comment = f"  # {line.comment}" if line.comment else ""
        text = Text.assemble(f"{line.text:<{COLUMN}}" if comment else line.text, (comment, "dim"))
        console.print(text, soft_wrap=True)
