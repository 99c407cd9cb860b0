"""The frame of the command line: help, versions, and what becomes of errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compose_vlp.cli import top_help
from compose_vlp.cli.guard import guarded
from compose_vlp.cli.table import COMMANDS, Entry
from compose_vlp.errors import UserError
from tests.cli.support import Cli


@pytest.mark.parametrize("line", ["", "--help", "-h"])
def test_help_lists_every_command_under_its_panel(cli: Cli, line: str) -> None:
    result = cli(line)
    assert result.code == 0
    for entry in COMMANDS:
        assert re.search(rf"│ {entry.name} +{re.escape(entry.summary)}", result.out)
    assert [p for p in ("Look", "Build", "Train", "Use") if f"─ {p} ─" in result.out] == [
        "Look",
        "Build",
        "Train",
        "Use",
    ]


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_help_of_a_command_teaches_it_by_examples(cli: Cli, entry: Entry) -> None:
    result = cli(f"{entry.name} --help")
    assert result.code == 0
    assert "Usage: compose-vlp" in result.out
    assert "Examples" in result.out


def test_version_is_the_package_s_own(cli: Cli) -> None:
    from importlib.metadata import version

    assert cli("--version").out == f"compose-vlp {version('compose-vlp')}\n"


def test_unknown_command_offers_the_nearest(cli: Cli) -> None:
    result = cli("chek coca")
    assert result.code == 2
    assert "No such command 'chek'. Did you mean 'check'" in result.err


def test_unknown_option_is_the_user_s_mistake(cli: Cli) -> None:
    result = cli("check coca --jsn")
    assert result.code == 2
    assert "--jsn" in result.err


def test_user_error_is_explained_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded() as outcome:
        raise UserError("no such thing", hints=("try the other",))
    assert outcome.code == 2
    assert capsys.readouterr().err == "no such thing\n  = try the other\n\n"


def test_unexpected_error_leaves_its_traceback_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded() as outcome:
        raise ZeroDivisionError("a fault")
    printed = capsys.readouterr().err
    path = Path(printed.split()[-1])
    try:
        assert outcome.code == 1
        assert "Unexpected ZeroDivisionError: a fault" in printed
        assert "Traceback" not in printed
        assert "raise ZeroDivisionError" in path.read_text(encoding="utf-8")
    finally:
        path.unlink()


def test_interruption_ends_with_130() -> None:
    with guarded() as outcome:
        raise KeyboardInterrupt
    assert outcome.code == 130


def test_interrupted_command_ends_with_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(top_help, "show", stop)
    assert cli("--help").code == 130


def test_reader_that_goes_away_is_no_error(root: Path) -> None:
    """`compose-vlp components | true`: enough is printed to fill what nobody reads."""
    command = [sys.executable, "-m", "compose_vlp", "show", "coca_base", "--json"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    printed = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert printed == ""


def test_python_dash_m_is_the_same_program(root: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "compose_vlp", "--version"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("compose-vlp ")


def test_completion_of_a_shell_names_commands(root: Path) -> None:
    environment = {"_COMPOSE_VLP_COMPLETE": "complete_bash", "COMP_WORDS": "compose-vlp ch", "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'compose-vlp'; from compose_vlp.cli import main; main()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, **environment})
    assert "check" in done.stdout
