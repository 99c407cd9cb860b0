"""`compose-vlp new`: a file of one's own to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compose_vlp.cli import complete
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json
from compose_vlp.errors import UserError

EXAMPLES = (
    ("a model of your own over a paper's", "compose-vlp new my_albef --from tiny/albef"),
    ("a sweep of its losses", "compose-vlp new my_sweep --sweep tiny/albef"),
    ("a component in Python; ffn and loss likewise", "compose-vlp new my_map --component component"),
)


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is to be called; NAME.yaml or NAME.py is written.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="BLUEPRINT",
            help="A blueprint over this one.",
            show_default=False,
            autocompletion=complete.library,
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            metavar="BLUEPRINT",
            help="A sweep of this one's losses.",
            show_default=False,
            autocompletion=complete.library,
        ),
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(
            "--component",
            metavar="SORT",
            help="A Python file of this sort: component, ffn or loss.",
            show_default=False,
            autocompletion=complete.starts,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented file to start from, which checks at once.

    It is written into the folder where you are; a file that is there already is left as it is.
    """
    from compose_vlp import starts

    asked = [option for option in (base, sweep, component) if option is not None]
    if len(asked) != 1:
        raise UserError("one of --from, --sweep and --component says what is to be written", hints=[EXAMPLES[0][1]])
    starts.check_name(name)
    file = Path(f"{name}.py" if component is not None else f"{name}.yaml")
    if base is not None:
        text, line = starts.blueprint(name, base), f"compose-vlp check {file}"
    elif sweep is not None:
        text, line = starts.sweep(name, sweep), f"compose-vlp sweep {file} --dry-run"
    else:
        assert component is not None
        text, line = starts.component(name, component, file), starts.trial(component, name, file)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise UserError(f"{file} is there already", hints=["another NAME, or move it away"]) from None
    if as_json:
        print_json({"file": str(file), "try": line})
    else:
        out().print(f"Written: {file}\nTry it: {line}", soft_wrap=True, markup=False)
