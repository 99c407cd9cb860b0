"""The CSV source: columns, quoted cells, filters, and lines that are broken."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from compose_vlp.data import BadRecord, Source, open_source
from compose_vlp.errors import UserError


def table(folder: Path, text: str | bytes, name: str = "a.csv", **settings: object) -> Source:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source({"use": "csv", "path": str(folder / name), **settings})


def test_columns_are_fields_and_pictures_are_found_beside_the_file(tmp_path: Path) -> None:
    text = '\ufeffimage,caption,of\r\np/1.png,"A cat, asleep",x\r\n\r\n2.png,"two\nlines ""quoted""",y\r\n'
    source = pickle.loads(pickle.dumps(table(tmp_path, text)))
    assert len(source) == 2
    assert source.record(0) == {"image": tmp_path / "p/1.png", "caption": "A cat, asleep", "of": "x"}
    assert source.record(1)["caption"] == 'two\nlines "quoted"'


def test_tabs_part_the_columns_of_a_tsv_and_pictures_can_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/1.png").touch()
    source = table(
        tmp_path, "left\ttext\n1.png\ta, b\n", "a.tsv", images=str(tmp_path / "p"), pictures=("left", "right")
    )
    assert source.record(0) == {"left": tmp_path / "p/1.png", "text": "a, b"}


def test_only_keeps_the_lines_that_read_so(tmp_path: Path) -> None:
    source = table(tmp_path, "n,split\n1,train\n2,val\n3,train\nbroken\n", only={"split": "train"})
    assert [source.record(i)["n"] for i in range(2)] == ["1", "3"]
    with pytest.raises(BadRecord, match=r"a\.csv:5: 1 cells under 2 headings"):
        source.record(2)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"1.png", "1 cells under 2 headings"),
        (b"1.png,a cat, asleep", "3 cells under 2 headings"),
        (b"1.png,caf\xe9", "no text in UTF-8"),
        (b",a cat", "image is '', not the path of a picture"),
    ],
)
def test_a_broken_line_is_a_bad_record_that_names_it(tmp_path: Path, line: bytes, says: str) -> None:
    source = table(tmp_path, b"image,caption\n0.png,good\n" + line + b"\n2.png,good\n")
    assert len(source) == 3
    with pytest.raises(BadRecord, match=r"a\.csv:3: ") as caught:
        source.record(1)
    assert says in str(caught.value)
    assert source.record(2)["image"].name == "2.png"


def test_long_and_foreign_captions_are_cells_like_others(tmp_path: Path) -> None:
    long = "word " * 60_000
    source = table(tmp_path, f"image,caption\n1.png,{long}\n2.png,一只猫 кошка 🐈\n")
    assert source.record(0)["caption"] == long
    assert source.record(1)["caption"] == "一只猫 кошка 🐈"


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ("", {}, "does not begin with a line of headings"),
        ("image,caption\n", {}, "has no record"),
        ("image,caption\n1.png,a\n", {"only": {"split": "train"}}, "has no column 'split'"),
        ("image,split\n1.png,val\n", {"only": {"split": "train"}}, "has no record with split 'train'"),
        ("image,caption\n1.png,a\n", {"images": "moved"}, "no folder 'moved'"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        table(tmp_path, text, **settings)
