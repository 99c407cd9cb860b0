"""`compose-vlp show`: the merged blueprint, with where each value came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, Plugins, Verbose, Words, load, print_notes

if TYPE_CHECKING:
    from compose_vlp.blueprint.write import Line

EXAMPLES = (
    ("the 2.1B CoCa", "compose-vlp show coca"),
    ("what a small sibling changes, and what stays", "compose-vlp show tiny/coca"),
    ("with a change, every default, and inferred sizes", "compose-vlp show coca inputs.image.size=576 --full"),
    ("as a file that reads back to the same", "compose-vlp show coca > mine.yaml"),
)


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
    from compose_vlp.blueprint.write import WIDTH, lines

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
    width = console.width if console.is_terminal else None
    for line in lines(document, min(width or WIDTH, WIDTH)):
        console.print(_with_comment(line, width), soft_wrap=True)


def _with_comment(line: Line, width: int | None) -> Text:
    """Write a line with its comment behind it, in a file's column or further left, as `width` has room.

    A comment that finds no room beside its line stands below it, at the right.
    """
    from compose_vlp.blueprint.write import COMMENT_COLUMN

    if not line.comment:
        return Text(line.text)
    comment = f"  # {line.comment}"
    if width is None:
        return Text.assemble(f"{line.text:<{COMMENT_COLUMN}}", (comment, "dim"))
    column = max(0, min(COMMENT_COLUMN, width - len(comment)))
    if len(line.text) <= column:
        return Text.assemble(f"{line.text:<{column}}", (comment, "dim"))
    return Text.assemble(line.text, "\n", " " * column, (comment, "dim"))
