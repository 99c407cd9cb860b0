"""Running a command line in this process, as a user would type it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from compose_vlp.cli.run import run as run_command
from tests.cli.support import SHORT, Cli, Result


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """`cli("check coca alpha=0")` runs the command in an empty folder, on a terminal of 120 columns without colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(line: str, *words: str) -> Result:
        capsys.readouterr()
        code = run_command([*shlex.split(line), *words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tiny/blip, of one step."""
    from tests.models import TINY

    folder = tmp_path_factory.mktemp("blip") / "blip"
    assert run_command(["train", "tiny/blip", *TINY, *SHORT, "--no-track", "--out", str(folder)]) == 0
    return folder
