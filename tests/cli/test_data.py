"""data: what is printed of a data set, what a script gets, and the page of what a model sees."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.support import Cli

BLUEPRINT = """
extends: tiny/coca
inputs:
  image: {from: file, size: 16, augment: {crop: [0.5, 1]}}
data:
  pairs: {use: csv, path: captions.csv, pictures: [file]}
components:
  bpe: {vocab_size: 300}
  vision: {patch: 8, stem: patch}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures with captions, one of them broken, one twice, and one caption too long."""
    lines = ["file,caption"]
    for number in range(12):
        Image.new("RGB", (20, 10 + number % 2), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'very ' * 40 * (number == 4)}red number {number}")
    (tmp_path / "3.png").write_text("not a picture")
    (tmp_path / "5.png").write_bytes((tmp_path / "7.png").read_bytes())
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    (tmp_path / "mine.yaml").write_text(BLUEPRINT)
    return tmp_path


def test_a_table_is_looked_over_and_its_entry_written_out(cli: Cli, folder: Path) -> None:
    result = cli("data captions.csv")
    assert result.code == 0
    said = re.sub(r" {2,}", "  ", re.sub(r" +\n", "\n", result.out))
    assert "records  12\n" in said
    assert "file  11 pictures, 1 of them copies\n" in said
    assert "width 20, height 10 to 11 (median 10); mostly 20 x 10 (6), 20 x 11 (5)" in said
    assert "caption  11 texts, 1 a record, no two alike\n" in said
    assert "words 3 to 43 (median 3)" in said
    assert "broken  1 (8.3 %)" in said
    assert "record 3: 3.png: no picture of a known kind" in said
    assert "In a blueprint: data: {mine: {use: csv, path: captions.csv, pictures: [file]}}" in said


def test_a_script_gets_all_of_it(cli: Cli, folder: Path) -> None:
    result = cli("data captions.csv --json --limit 6")
    said = json.loads(result.out)
    assert result.err == ""
    assert said["source"] == {"use": "csv", "path": "captions.csv", "pictures": ["file"]}
    assert (said["records"], said["read"]) == (12, 6)
    assert said["pictures"]["file"]["width"] == {"least": 20, "median": 20, "most": 20}


def test_with_a_blueprint_a_page_shows_what_the_model_sees(cli: Cli, folder: Path) -> None:
    result = cli("data mine.yaml")
    assert result.code == 0
    assert re.search(r"input caption +tokens \d+ to \d+ \(median \d+\); 8\.3 % are longer than 28 and cut", result.out)
    assert result.out.endswith("What the model sees: mine_pairs.html\n")
    page = (folder / "mine_pairs.html").read_text()
    assert "record 2" in page
    assert "record 3<" not in page, "a broken record is not shown"
    assert page.count("epoch 3</figcaption>") == 11
    assert page.count("image, 16 px</figcaption>") == 11
    assert "no picture of a known kind" in page
    assert 'class="pad"' in page
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)


def test_an_entry_a_page_and_changes_can_be_named(cli: Cli, folder: Path) -> None:
    changed = "'+data.drawn={use: scenes, count: 30}'"
    result = cli(f"data mine.yaml {changed} --data drawn --page seen.html --json")
    said = json.loads(result.out)
    assert (said["data"], said["page"], said["records"]) == ("drawn", "seen.html", 30)
    assert said["tokens"]["caption"]["frame"] == 28
    assert (folder / "seen.html").is_file()


def test_an_input_without_its_field_is_told_and_the_rest_is_shown(cli: Cli, folder: Path) -> None:
    (folder / "captions.csv").write_text("file,said\n1.png,a\n2.png,b\n")
    result = cli("data mine.yaml")
    assert result.code == 0
    assert "note: input 'caption' reads the field 'caption', which the records do not have" in result.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("data moved.csv", "no file 'moved.csv'"),
        ("data captions.csv --data pairs", "need a blueprint"),
        ("data captions.csv mine.yaml", "need a blueprint"),
        ("data mine.yaml --images .", "`--images` belongs to a file of captions"),
        ("data mine.yaml --data pair", "no data is called 'pair'"),
        ("data mine.yaml inputs.image.from=x inputs.caption.from=y", "no input reads a field of these records"),
    ],
)
def test_mistakes_are_told(cli: Cli, folder: Path, line: str, says: str) -> None:
    result = cli(line)
    assert result.code == 2
    assert says in result.err
