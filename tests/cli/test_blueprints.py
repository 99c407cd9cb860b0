"""`compose-vlp blueprints`: what comes with the program, read off the files themselves."""

from __future__ import annotations

import json

import pytest

from compose_vlp.blueprint.locate import builtin_names
from compose_vlp.library import GROUPS, Listing, extending, listing, listings
from tests.cli.support import Cli


def test_list_has_every_built_in_blueprint_and_sweep(cli: Cli) -> None:
    printed = {entry["name"] for entry in json.loads(cli("blueprints --json").out)}
    assert set(builtin_names()) <= printed
    assert all(name.startswith("sweeps/") for name in printed - set(builtin_names()))


@pytest.mark.parametrize("entry", listings(), ids=lambda entry: entry.name)
def test_every_file_stands_in_a_group_and_says_what_it_is(entry: Listing) -> None:
    assert entry.group in GROUPS
    assert entry.summary.endswith((".", "?", ")", ":"))
    assert "title" in entry.settings or not entry.is_model


def test_summary_does_not_end_at_the_names_of_authors() -> None:
    assert listing("albef").summary.endswith("(Li et al. 2021).")


def test_parents_are_names_of_the_library_however_they_are_written() -> None:
    known = {entry.name for entry in listings()}
    assert {parent for entry in listings() for parent in entry.parents} <= known
    assert "tiny/vlmo" in extending("vlmo_base")  # through vlmo_staged
    assert extending("tiny/coca") == []


def test_a_name_tells_of_header_size_and_relatives(cli: Cli) -> None:
    result = cli("blueprints tiny/coca")
    assert result.code == 0
    for text in ("CoCa at a size that learns in minutes", "parameters", "M", "extends", "coca"):
        assert text in result.out
    assert "yaml-language-server" not in result.out


def test_tasks_are_tried_over_a_model(cli: Cli) -> None:
    tasks = json.loads(cli("blueprints tiny/coca --tasks --json").out)["tasks"]
    assert tasks["tasks/captioning"] is None
    assert tasks["tasks/nlvr2"] == "nothing is called `v`"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("blueprints vlmo", "did you mean"),
        ("blueprints 'x*'", "`compose-vlp blueprints` lists them"),
        ("blueprints tasks/nlvr2 --tasks", "tasks/nlvr2 is no model"),
        ("blueprints '*coca*' --tasks", "over one model"),
    ],
)
def test_mistakes_name_the_way_out(cli: Cli, line: str, message: str) -> None:
    result = cli(line)
    assert result.code == 2
    assert message in result.err
