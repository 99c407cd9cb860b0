"""The table of commands says what the commands themselves say."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

import compose_vlp.cli.commands
from compose_vlp.blueprint.locate import builtin_names
from compose_vlp.cli.table import BY_NAME, COMMANDS, PROGRAM, Entry

MODULES = {entry.name: importlib.import_module(entry.module) for entry in COMMANDS}


def first_line(name: str) -> str:
    module = MODULES[name]
    help_text = module.command.__doc__ if hasattr(module, "command") else module.commands.info.help
    return inspect.cleandoc(help_text).split("\n")[0]


def test_every_command_has_an_entry() -> None:
    files = {actual.name for actual in pkgutil.iter_modules(compose_vlp.cli.commands.__path__)}
    assert files == set(BY_NAME)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_summary_is_the_first_line_of_the_command(entry: Entry) -> None:
    assert entry.summary == first_line(entry.name)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_summary_fits_a_terminal_of_eighty_columns(entry: Entry) -> None:
    assert len(entry.summary) <= 62


@pytest.mark.parametrize("name", MODULES)
def test_command_ends_its_help_with_examples_that_name_it(name: str) -> None:
    assert MODULES[name].EXAMPLES
    for _, line in MODULES[name].EXAMPLES:
        assert shlex.split(line)[:2] == [PROGRAM, name]


@pytest.mark.parametrize("name", ["check", "show", "diff", "build", "train"])
def test_blueprints_in_examples_exist(name: str) -> None:
    known = set(builtin_names())
    options = {"--out", "--resume", "--without", "--stage", "--plugin", "--world", "--device"}
    for _, line in MODULES[name].EXAMPLES:
        words = shlex.split(line.partition(">")[0])[2:]
        values = {after for before, after in pairwise(words) if before in options}
        named = [w for w in words if w not in values and not w.startswith(("-", "+", "~")) and "=" not in w]
        assert [word for word in named if word not in known and Path(word).suffix != ".yaml"] == []
