"""A hook of mkdocs that writes the page of the commands, read off their functions: what each does and takes."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer import Context
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from compose_vlp.cli.table import COMMANDS, PROGRAM, Entry
from compose_vlp.pages.markup import markdown_cell

INTRODUCTION = """\
# Commands

Every command takes the same blueprints and the same changes, as [the language](language.md#overrides) has them, and
`compose-vlp COMMAND --help` prints what stands here. Exit codes: 0 done, 1 failed, 2 a mistake in what was given, 130
stopped.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def commands_page() -> str:
    """All commands in the order of `--help`."""
    return "\n".join([INTRODUCTION, *(line for entry in COMMANDS for line in _section(entry))])


def _section(entry: Entry) -> Iterator[str]:
    module = importlib.import_module(entry.module)
    yield f"## {entry.name}\n"
    if hasattr(module, "command"):
        yield from _function(module.command)
    else:
        yield f"{entry.summary}\n"
        for command in module.commands.registered_commands:
            yield f"**`{PROGRAM} {entry.name} {command.name or command.callback.__name__}`**\n"
            yield from _function(command.callback)
    yield "```bash"
    for what, line in module.EXAMPLES:
        yield f"{line:<64}  # {what}"
    yield "```\n"


def _function(function: Callable[..., Any]) -> Iterator[str]:
    yield f"{inspect.getdoc(function)}\n"
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    rows = [_row(p, hints[p.name]) for p in parameters if hints[p.name] is not Context]  # which nobody writes
    if rows:
        yield from ("| | what it is | if left out |", "|---|---|---|", *rows, "")


def _row(parameter: inspect.Parameter, hint: Any) -> str:
    info = next(extra for extra in typing.get_args(hint) if isinstance(extra, ParameterInfo))
    must = parameter.default is inspect.Parameter.empty
    has_default = not any(parameter.default is nothing for nothing in (None, False, ()))
    default = "must be given" if must else f"`{parameter.default}`" if has_default else ""
    return f"| {_spelling(parameter.name, info)} | {markdown_cell(info.help or '')} | {default} |"


def _spelling(name: str, info: ParameterInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return markdown_cell(f"`{info.metavar or name.upper()}`")
    assert isinstance(info, OptionInfo)
    # Inside `Annotated` the first name stands where a default would.
    words = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    declared = words or [f"--{name.replace('_', '-')}"]
    return " ".join(f"`{word}{' ' + info.metavar if info.metavar else ''}`" for word in declared)
