"""From the words of a command line to an exit code.

0 done, 1 failed, 2 the user's mistake; stopped by a signal: 130 (Ctrl-C), 143 (SIGTERM), 129 (a closed terminal).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from compose_vlp.cli.console import be_quiet
from compose_vlp.cli.table import BY_NAME, COMMANDS, PROGRAM
from compose_vlp.errors import Stopped

if TYPE_CHECKING:
    import typer

COMPLETION = "_COMPOSE_VLP_COMPLETE"
"""Set by the shell while it completes; typer then answers with names instead of running anything."""


QUIET = ("-q", "--quiet")
"""Taken by every command, wherever it stands."""


def run(arguments: list[str]) -> int:
    """Run one command line; prints what is to be printed and never raises."""
    from compose_vlp.cli import guard

    given = [word for word in arguments if word not in QUIET]
    be_quiet(given != arguments)
    with guard.guarded(as_json="--json" in given) as outcome:
        outcome.code = _dispatch(given)
    return outcome.code


def _dispatch(arguments: list[str]) -> int:
    if COMPLETION in os.environ:
        return _call(application(_completed()), arguments, PROGRAM)
    if arguments[:1] in (["--install-completion"], ["--show-completion"]):
        return _call(application([]), arguments, PROGRAM)
    if not arguments or arguments[0] in ("--help", "-h"):
        from compose_vlp.cli import top_help

        top_help.show()
        return 0
    if arguments[0] in ("--version", "-V"):
        from importlib.metadata import version

        print(PROGRAM, version("compose-vlp"))
        return 0
    name = arguments[0]
    known = [name] if name in BY_NAME else []
    return _call(application(known), arguments, PROGRAM)


def _completed() -> list[str]:
    """Name the command whose line is being typed: bash says the line in one variable, zsh and fish in another."""
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    return [word for word in typed.split()[1:2] if word in BY_NAME]


def application(names: Iterable[str]) -> typer.Typer:
    """Make the typer application with all commands; those named are imported, the rest are names only."""
    import typer

    from compose_vlp.cli.one_voice import OneVoice

    app = typer.Typer(
        cls=OneVoice,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    imported = set(names)
    for entry in COMMANDS:
        if entry.name in imported:
            _add(app, entry.name, importlib.import_module(entry.module))
        else:
            app.command(entry.name, help=entry.summary)(_unimported)
    return app


def _add(app: typer.Typer, name: str, module: Any) -> None:
    """Add a module: it offers `command`, a function, or `commands`, a group of its own; its `EXAMPLES` end the help."""
    from compose_vlp.cli.help_text import epilog, flowing

    end, panel = epilog(module.EXAMPLES), BY_NAME[name].panel
    if hasattr(module, "commands"):
        app.add_typer(module.commands, name=name, epilog=end, rich_help_panel=panel)
    else:
        text = flowing(module.command.__doc__)
        app.command(name, help=text, epilog=end, rich_help_panel=panel)(module.command)


def _root() -> None:
    """Vision-language pretraining as typed, checked and compiled blueprints."""


def _unimported() -> None:
    raise AssertionError("a command that was not asked for was run")


def _call(app: typer.Typer, arguments: list[str], program: str) -> int:
    """Run the application. Typer ends the process by SystemExit: 2 for wrong usage, 130 for any KeyboardInterrupt.

    Raises:
        Stopped: a signal ended the command.
    """
    try:
        app(args=arguments, prog_name=program)
    except SystemExit as end:
        if end.__context__ is not None and isinstance(stop := end.__context__.__cause__, Stopped):
            raise stop from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.excepthook = sys.__excepthook__  # typer puts its own there
    return 0
