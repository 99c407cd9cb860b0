"""`compose-vlp new`: what it writes checks at once, changes nothing, and never replaces a file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from compose_vlp.starts import COMPONENTS
from tests.cli.support import Cli


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("base", ["coca", "tiny/albef", "vlmo_staged", "hybrids/albef_multiway"])
def test_a_blueprint_checks_and_means_what_it_extends(cli: Cli, base: str) -> None:
    assert cli(f"new mine --from {base}").code == 0
    assert cli("check mine.yaml").code == 0
    assert json.loads(cli(f"diff {base} mine.yaml --json").out) == []


def test_every_line_that_is_offered_can_be_taken(cli: Cli) -> None:
    cli("new mine --from tiny/albef")
    file = Path("mine.yaml")
    head, body = file.read_text().split("title:", 1)
    opened = [
        line.removeprefix("# ") if line.startswith("# ") and (line.endswith(":") or line.startswith("#   ")) else line
        for line in body.split("\n")
    ]
    file.write_text(f"{head}title:{chr(10).join(opened)}")
    assert "\nlosses:\n  itc: {" in file.read_text()
    assert cli("check mine.yaml").code == 0


def test_a_sweep_has_a_cell_for_each_loss(cli: Cli) -> None:
    assert cli("new mine --sweep tiny/albef").code == 0
    listed = cli("sweep mine.yaml --dry-run")
    assert listed.code == 0
    assert all(f"{loss}=off" in listed.out for loss in ("itc", "itm", "mlm"))


@pytest.mark.parametrize("sort", COMPONENTS)
def test_a_component_does_what_its_file_says(cli: Cli, sort: str) -> None:
    notes = json.loads(cli(f"new my_start --component {sort} --json").out)
    text = Path(notes["file"]).read_text()
    assert notes["try"] in text
    assert "start_" not in text.replace("my_start", "")
    words = shlex.split(notes["try"])
    assert words[0] == "compose-vlp"
    assert cli(shlex.join(words[1:])).code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("new mine", "one of --from, --sweep and --component"),
        ("new mine --from albef --sweep albef", "one of --from, --sweep and --component"),
        ("new My-Albef --from albef", "'My-Albef' is no name to start with"),
        ("new class --component loss", "'class' is no name to start with"),
        ("new mine --from albff", "did you mean"),
        ("new mine --component los", "did you mean"),
        ("new mine --sweep clip", "no two losses"),
        ("new taken --from albef", "taken.yaml is there already"),
    ],
)
def test_mistakes_name_the_way_out(cli: Cli, line: str, message: str) -> None:
    Path("taken.yaml").write_text("mine")
    result = cli(line)
    assert result.code == 2
    assert message in result.err
    assert [file.name for file in Path().iterdir()] == ["taken.yaml"]
    assert Path("taken.yaml").read_text() == "mine"
