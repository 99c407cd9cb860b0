"""data: what is printed of a data set, what a script gets, and the page of what a model sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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
  vision: {patch: 8, stem: patch, stem_depth: 0}
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
    output = re.sub(r" {2,}", "  ", re.sub(r" +\n", "\n", result.out))
    assert "records  12\n" in output
    assert "file  11 pictures, 1 of them a copy\n" in output
    assert "width 20, height 10 to 11 (median 10); mostly 20 x 10 (6), 20 x 11 (5)" in output
    assert "caption  11 texts, 1 a record, no two alike\n" in output
    assert "words 3 to 43 (median 3)" in output
    assert "broken  1 (8.3 %)" in output
    assert "record 3: 3.png: no picture of a known kind" in output
    assert (
        "In a blueprint: data: {pairs: {use: csv, path: captions.csv, pictures: [file], fields: {image: file}}}"
        in output
    )


def test_a_script_gets_all_of_it(cli: Cli, folder: Path) -> None:
    result = cli("data captions.csv --json --limit 6")
    output = json.loads(result.out)
    assert result.err == ""
    assert output["source"] == {
        "use": "csv",
        "path": "captions.csv",
        "pictures": ["file"],
        "fields": {"image": "file"},
    }
    assert (output["records"], output["read"]) == (12, 6)
    assert output["pictures"]["file"]["width"] == {"least": 20, "median": 20, "most": 20}


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
    output = json.loads(result.out)
    assert (output["data"], output["page"], output["records"]) == ("drawn", "seen.html", 30)
    assert output["tokens"]["caption"]["frame"] == 28
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


# --- the line for a blueprint -------------------------------------------------------------------------------------

PASTED = """
extends: tiny/coca
inputs: {{image: {{size: 16}}, caption: {{max_length: 12}}}}
components:
  bpe: {{vocab_size: 300}}
  vision: {{patch: 8, stem: patch, stem_depth: 0}}
{line}
stages:
  pretrain: {{data: pairs, batch: 4, length: 1 steps, losses: [contrastive, captioning]}}
"""


def pictures(folder: Path, count: int = 6) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (20, 20), (20 * number, 0, 0)).save(folder / f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def table(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines))


def flickr(folder: Path) -> str:
    names = pictures(folder)
    lines = [f'{name}| {number}| a cat says " {number} " .' for number, name in enumerate(names)]
    table(folder / "results, all.csv", ["image_name| comment_number| comment", *lines])
    return "results, all.csv"


def without_headings(folder: Path) -> str:
    table(folder / "a.tsv", [f"the cat {name[0]}\t{name}" for name in pictures(folder)])
    return "a.tsv"


def excel(folder: Path) -> str:
    lines = [f"{number};{name};eine Katze, rot" for number, name in enumerate(pictures(folder))]
    (folder / "#1.csv").write_bytes("\r\n".join(["Nr;Bild;Beschreibung", *lines]).encode("utf-8-sig"))
    return "#1.csv"


def a_list(folder: Path) -> str:
    entries = [{"image": name, "caption": ["a cat", "a red cat"], "image_id": name} for name in pictures(folder)]
    (folder / "a.json").write_text(json.dumps(entries))
    return "a.json"


def lines_called_json(folder: Path) -> str:
    entries = [{"file_name": name, "text": "a cat"} for name in pictures(folder)]
    (folder / "a.json").write_text("\n".join(map(json.dumps, entries)))
    return "a.json"


def plain_folder(folder: Path) -> str:
    for name in pictures(folder / "cats: all"):
        (folder / "cats: all" / name).with_suffix(".TXT").write_text("a cat")
    return "cats: all"


FORMS = [flickr, without_headings, excel, a_list, lines_called_json, plain_folder]


@pytest.mark.parametrize("form", FORMS)
def test_the_line_for_a_blueprint_works_as_it_stands(cli: Cli, tmp_path: Path, form: Callable[[Path], str]) -> None:
    result = cli("data", form(tmp_path))
    assert result.code == 0, result.err
    line = result.out.splitlines()[-1].removeprefix("In a blueprint: ")
    (tmp_path / "mine.yaml").write_text(PASTED.format(line=line))
    seen = cli("data mine.yaml --json")
    assert seen.code == 0, seen.err
    output = json.loads(seen.out)
    assert (output["records"], output["broken"]) == (6, {})
    assert output["tokens"]["caption"]["lengths"]["most"] > 2
    if form is flickr:
        trained = cli("train mine.yaml --out run --no-track --workers 0")
        assert trained.code == 0, trained.err


# --- nothing can be used ------------------------------------------------------------------------------------------


def elsewhere(folder: Path) -> str:
    table(folder / "a.csv", ["image,caption", *(f"{name},a cat" for name in pictures(folder / "deep/jpg"))])
    return "its pictures lie in deep/jpg: `--images deep/jpg`"


def of_another_machine(folder: Path) -> str:
    names = pictures(folder / "train")
    table(folder / "a.csv", ["image,caption", *(f"/export/home/train/{name},a cat" for name in names)])
    return "its pictures lie in ."


def nowhere(folder: Path) -> str:
    table(folder / "a.csv", ["image,caption", *(f"{number}.png,a cat" for number in range(3))])
    return "no picture lies where the records say (0.png): `--images FOLDER`"


def cut_otherwise(folder: Path) -> str:
    table(folder / "a.csv", ["image,caption", *(f"{name};a cat" for name in pictures(folder))])
    return "the lines have a semicolon where the headings have none"


def marked(folder: Path) -> str:
    table(folder / "a.csv", ["image,caption", *(f'{name},"a" cat' for name in pictures(folder))])
    return "most lines have lone quotation marks: `quoting: none`"


def pages(folder: Path) -> str:
    for name in pictures(folder):
        (folder / name).write_text("<html>not found")
    table(folder / "a.csv", ["image,caption", *(f"{number}.png,a cat" for number in range(6))])
    return "6 records: no picture of a known kind"


def of_another_encoding(folder: Path) -> str:
    lines = ["image,caption", *(f"{name},un été" for name in pictures(folder))]
    (folder / "a.csv").write_text("\n".join(lines), encoding="windows-1252")
    return "the file is in another encoding than UTF-8, often Windows-1252: `iconv -f WINDOWS-1252 -t UTF-8"


@pytest.mark.parametrize(
    "form", [elsewhere, of_another_machine, nowhere, cut_otherwise, marked, pages, of_another_encoding]
)
def test_data_of_which_nothing_can_be_used_fails_and_a_reason_is_guessed(
    cli: Cli, tmp_path: Path, form: Callable[[Path], str]
) -> None:
    guess = form(tmp_path)
    result = cli("data a.csv")
    assert result.code == 1
    assert "broken" in result.out and "In a blueprint" not in result.out
    assert result.err.startswith("No record can be used.\n")
    assert f"  = {guess}" in result.err
    as_json = cli("data a.csv --json")
    assert as_json.code == 1
    assert guess in json.loads(as_json.out)["guesses"][0]


@pytest.mark.parametrize(
    "entry", ["{use: csv, path: a.csv}", "{mix: {only: 1}}", "{use: csv, path: a.csv, fields: {a: b}}"]
)
@pytest.mark.parametrize("form", [elsewhere, nowhere, cut_otherwise, marked, pages])
def test_of_a_blueprint_s_data_the_same_reason_is_guessed(
    cli: Cli, tmp_path: Path, form: Callable[[Path], str], entry: str
) -> None:
    guess = form(tmp_path)
    data = f"data:\n  pairs: {entry}\n" + ("  only: {use: csv, path: a.csv}\n" if "mix" in entry else "")
    (tmp_path / "mine.yaml").write_text(re.sub(r"data:\n.*\n", data, BLUEPRINT.replace("from: file, ", "")))
    result = cli("data mine.yaml")
    assert result.code == 1
    assert "No record can be used.\n" in result.err and guess in result.err
    as_json = cli("data mine.yaml --json")
    assert as_json.code == 1
    assert guess in json.loads(as_json.out)["guesses"][0]


@pytest.mark.parametrize(
    ("name", "hint"), [("a.jsonl.gz", "it is packed: unpack it first"), ("a.xlsx", "known endings: .arrow, .csv")]
)
def test_a_file_that_nothing_reads_is_taken_as_data_not_as_a_blueprint(
    cli: Cli, tmp_path: Path, name: str, hint: str
) -> None:
    (tmp_path / name).touch()
    result = cli(f"data {name}")
    assert result.code == 2
    assert f"it cannot be seen what '{name}' is" in result.err and hint in result.err


def test_what_a_folder_passes_over_is_told(cli: Cli, tmp_path: Path) -> None:
    pictures(tmp_path / "p")
    (tmp_path / "p/film.mp4").touch()
    result = cli("data p")
    assert result.code == 0
    assert "note: passed over, being neither pictures nor their captions: 1 .mp4" in result.err
