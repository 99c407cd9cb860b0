"""What a terminal obeys (escape sequences, marks of direction) is shown wherever it stands, and obeyed nowhere."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from compose_vlp.blueprint.resolve import resolve
from compose_vlp.blueprint.write import write
from compose_vlp.cli.console import SafeConsole
from compose_vlp.cli.guard import guarded
from compose_vlp.readable import UNSEEN, visible
from tests.cli.support import Cli

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b1A\u202egnp.\r\x08over"
"""Sets a terminal's title, clears it, colours, goes up a line, turns the direction, and writes over."""


def test_what_a_terminal_obeys_is_shown_as_a_sign() -> None:
    assert visible("a\x1b[31m\x7f\x9b\u202e\ud800\tb\n") == "a\u241b[31m\u2421\ufffd\ufffd\ufffd\tb\n"
    for harmless in ("плюс", "日本", "سلام", "👩\u200d🚀", "a\u0301"):
        assert visible(harmless) == harmless


@pytest.mark.parametrize("shape", ["words", "text", "table"])
def test_a_console_colours_by_itself_alone(shape: str) -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=True, width=200, markup=False, highlight=False)
    table = Table("name")
    table.add_row(HOSTILE)
    console.print({"words": HOSTILE, "text": Text(HOSTILE), "table": table}[shape], style="bold")
    printed = stream.getvalue()
    assert "\u241b[2J\u241b[31mred" in printed
    assert "\x1b[1m" in printed, "its own style"
    for obeyed in ("\x1b[2J", "\x1b[31m", "\x1b]0", "\x9b", "\u202e", "\x07"):
        assert obeyed not in printed


def clean(text: str) -> bool:
    return UNSEEN.search(text) is None


def test_names_and_captions_of_a_data_set_are_shown(cli: Cli) -> None:
    records = [{"image": f"{HOSTILE}.jpg", "caption": HOSTILE, f"k{HOSTILE}": HOSTILE, "id": HOSTILE}] * 3
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    Path("captions.jsonl").write_text(text, encoding="utf-8")
    for command in ("data captions.jsonl", "data captions.jsonl --json"):
        result = cli(command)
        assert result.code in (0, 1)
        assert clean(result.out + result.err), (command, result)
    data = "data.pairs='{use: jsonl, path: captions.jsonl}'"
    for command in (f"data tiny/coca {data}", f"train tiny/coca {data} --no-track --out run"):
        result = cli(command)
        assert result.code and clean(result.out + result.err), (command, result)


def test_names_of_a_blueprint_are_shown_and_written_so_that_they_can_be_read_again(cli: Cli) -> None:
    title = '"Es\\e[31mred\\u202Ebidi\\x9b"'
    Path("own.yaml").write_text(f"extends: tiny/coca\nname: own\ntitle: {title}\n", encoding="utf-8")
    shown = cli("show own.yaml")
    assert shown.code == 0 and clean(shown.out + shown.err)
    Path("again.yaml").write_text(write(resolve(["own.yaml"]).document), encoding="utf-8")
    assert clean(Path("again.yaml").read_text(encoding="utf-8"))
    (again, own) = (resolve([name]).document.root.get("title") for name in ("again.yaml", "own.yaml"))
    assert getattr(again, "text", 0) == getattr(own, "text", 1) == "Es\x1b[31mred\u202ebidi\x9b"
    hostile = [
        'components: {"vi\\e[31msion": {use: vit}}',
        'losses: {x: {use: "con\\e[2J"}}',
        'graph: {x: "vision(\\e[2J)"}',
        'stages: {"a\\u202E": {data: "\\e[2J", batch: 1, length: 1 steps, losses: ["\\e[2J"]}}',
        'extends: ["\\e[2J"]',
        '"sec\\e[2Jtion": 1',
        "title: 'a\x1b[2Jb'",
    ]
    for line in hostile:
        Path("own.yaml").write_text(f"name: own\n{'' if 'extends' in line else 'extends: tiny/coca'}\n{line}\n")
        for command in ("check own.yaml", "check own.yaml --json"):
            result = cli(command)
            assert result.code == 2 and clean(result.out + result.err), (line, command, result)


@pytest.mark.parametrize(
    "words", ["check 'a\x1b[2J'", "check tiny/coca 'a\x1b[2J=3'", "tra\x1b[2Jin", "runs --\x1b[2J"]
)
def test_words_of_a_command_line_are_shown(cli: Cli, words: str) -> None:
    result = cli(words)
    assert result.code == 2 and clean(result.out + result.err), result


def test_warnings_and_faults_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded():
        logging.getLogger("somebody.s").handle(logging.LogRecord("s", 30, "", 0, HOSTILE, (), None))
        raise RuntimeError(HOSTILE)
    assert clean(capsys.readouterr().err)
