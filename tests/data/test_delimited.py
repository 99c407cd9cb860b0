"""Tables as people and programs write them: nothing is lost that is not counted, whatever marks stand in it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose_vlp.data import BadRecord, Source, open_source
from compose_vlp.errors import UserError

LINES = [f"{number:02d}.png,a cat number {number}" for number in range(12)]


def table(folder: Path, text: str | bytes, name: str = "a.csv", **more: object) -> Source:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source({"use": "csv", "path": str(folder / name), "pictures": (), **more})


def rows(source: Source) -> list[dict[str, str] | str]:
    """Every record, or why it is none."""
    actual: list[dict[str, str] | str] = []
    for index in range(len(source)):
        try:
            actual.append(dict(source.record(index)))
        except BadRecord as error:
            actual.append(str(error))
    return actual


def captions(source: Source) -> list[str]:
    return [row if isinstance(row, str) else row["caption"] for row in rows(source)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


# --- marks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True], ids=["picture first", "caption first"])
@pytest.mark.parametrize("ends", [("5",), ("5", "6"), ("5", "9"), ("3", "5", "9")])
def test_a_lone_mark_costs_its_own_line_alone(tmp_path: Path, ends: tuple[str, ...], turned: bool) -> None:
    lines = [line.split(",") for line in LINES]
    for place, end in enumerate(ends):
        before, after = ('"', "") if place % 2 == 0 else ("", '"')
        lines[int(end)][1] = f"{before}the sign said stop{after}"
    written = [",".join(reversed(line) if turned else line) for line in lines]
    headings = "caption,image" if turned else "image,caption"
    actual = rows(table(tmp_path, "\n".join([headings, *written])))
    assert len(actual) == len(LINES)
    broken = {number for number, row in enumerate(actual) if isinstance(row, str)}
    assert broken == {int(end) for end in ends[::2]}, "a mark at the end of a cell is a letter like others"
    for number in broken:
        assert f"a.csv:{number + 2}: its quotation marks do not pair; `quoting: none`" in str(actual[number])


def test_lone_marks_swallow_no_line_of_tables_without_pictures(tmp_path: Path) -> None:
    lines = [f"{number},a cat" for number in range(1, 10)]
    lines[2], lines[3], lines[6] = '3,"a cat', '4,a cat"', '7,a cat"'
    text = "\n".join(["id,caption", *lines])
    actual = captions(table(tmp_path, text))
    assert len(actual) == 9
    assert "a.csv:4: its quotation marks" in actual[2]
    assert actual[3] == 'a cat"'


def test_quoted_cells_go_over_lines_and_hold_separators_and_marks(tmp_path: Path) -> None:
    text = 'image,caption\r\n1.png,"a dog,\r\nrunning, fast,\r\n""very"" fast"\r\n2.png,"a ""5"" tag"\r\n"3.png",\r\n'
    source = table(tmp_path, text)
    assert captions(source) == ['a dog,\nrunning, fast,\n"very" fast', 'a "5" tag', ""]
    assert captions(table(tmp_path, 'caption,image\n"a dog,\nrunning, fast\nhome",1.png\nx,2.png\n')) == [
        "a dog,\nrunning, fast\nhome",
        "x",
    ]


def test_marks_of_a_tsv_are_letters_unless_the_file_is_quoted_throughout(tmp_path: Path) -> None:
    web = 'image\tcaption\n1.png\t"the sign said stop\n2.png\t"Stop"\n3.png\the said stop"\n'
    assert captions(table(tmp_path, web, "a.tsv")) == ['"the sign said stop', '"Stop"', 'he said stop"']
    pandas = 'image\tcaption\n1.png\t"the sign said ""stop"""\n2.png\tplain\n'
    assert captions(table(tmp_path, pandas, "a.tsv")) == ['the sign said "stop"', "plain"]
    every = '"image"\t"caption"\n"1.png"\t"a cat"\n'
    assert captions(table(tmp_path, every, "a.tsv")) == ["a cat"]
    assert captions(table(tmp_path, pandas, "a.tsv", quoting="none"))[0] == '"the sign said ""stop"""'
    assert captions(table(tmp_path, '2.png\t"Stop"\n', "a.tsv", quoting="quotes", columns=("image", "caption"))) == [
        "Stop"
    ]


def test_a_table_without_quoting_is_read_so_where_it_is_said(tmp_path: Path) -> None:
    text = 'image,caption\n1.png,"the sign\n2.png,a 5" disk\n3.png,"a"b\n'
    assert captions(table(tmp_path, text, quoting="none")) == ['"the sign', 'a 5" disk', '"a"b']


PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""No limit of time: the machine may have other work."""
LETTERS = st.text(st.sampled_from("ab\"',;\t|\n é猫"), max_size=12)


@PATIENT
@given(
    st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=8),
    st.sampled_from(",;"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_writer_of_csv_writes_is_read(
    folder: Path, cells: list[tuple[str, str]], separator: str, quoting: int
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator="\n")
    writer.writerow(["caption", "note"])
    writer.writerows([*cells, ("last", "line")])
    source = table(folder, stream.getvalue(), separator=separator)
    full = [*((caption, note) for caption, note in cells if caption.strip() or note.strip()), ("last", "line")]
    assert rows(source) == [{"caption": caption, "note": note} for caption, note in full]


@PATIENT
@given(st.lists(st.text(st.sampled_from('ab "'), max_size=9), min_size=1, max_size=30), st.booleans())
def test_whatever_marks_stand_in_captions_every_line_is_a_record_or_named(
    folder: Path, captions: list[str], turned: bool
) -> None:
    lines = [(f"{number}.png", caption) for number, caption in enumerate(captions)]
    text = "".join(",".join(reversed(line) if turned else line) + "\n" for line in [("image", "caption"), *lines])
    actual = rows(table(folder, text))
    assert len(actual) == len(lines)
    for number, row in enumerate(actual):
        assert row["image"] == f"{number}.png" if isinstance(row, dict) else f"a.csv:{number + 2}: its" in row


# --- separators, headings, encodings ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_encodings_and_line_ends_are_seen(tmp_path: Path, separator: str, encoding: str, end: str) -> None:
    lines = [separator.join(cells) + end for cells in (("image", "caption"), ("1.png", "a cät"), ("2.png", "x"))]
    source = table(tmp_path, "".join(lines).encode(encoding))
    assert rows(source) == [{"image": "1.png", "caption": "a cät"}, {"image": "2.png", "caption": "x"}]


def test_the_separator_is_the_one_that_the_lines_have_as_often_as_the_headings(tmp_path: Path) -> None:
    text = "image;the caption, in English;n\n1.png;a cat, asleep, alone;7\n2.png;a dog;8\n"
    assert rows(table(tmp_path, text))[0] == {
        "image": "1.png",
        "the caption, in English": "a cat, asleep, alone",
        "n": "7",
    }
    assert captions(table(tmp_path, "image,caption\n1.png,a cat; a dog\n2.png,b;c\n")) == ["a cat; a dog", "b;c"]
    assert captions(table(tmp_path, "sep=;\nimage;caption\n1.png;a, b\n")) == ["a, b"], "as Excel is told"
    assert captions(table(tmp_path, "image:caption\n1.png:a, b\n", separator=":")) == ["a, b"]


def test_the_table_of_flickr30k_with_bars_and_spaces(tmp_path: Path) -> None:
    text = (
        "image_name| comment_number| comment\n"
        '1000.jpg| 0| Two friends say " hi " .\n'
        "2199200615.jpg| 4   A dog runs across the grass .\n"
        "1001.jpg| 1|  A man .\n"
    )
    actual = rows(table(tmp_path, text))
    assert actual[0] == {"image_name": "1000.jpg", "comment_number": "0", "comment": 'Two friends say " hi " .'}
    assert "a.csv:3: 2 cells under 3 headings" in str(actual[1])
    assert actual[2]["comment"] == "A man ."  # type: ignore[index]


def test_spaces_after_the_separator_belong_to_no_cell(tmp_path: Path) -> None:
    actual = rows(table(tmp_path, 'image, caption\n1.png, "a dog, running"\n2.png, x\n'))
    assert actual == [{"image": "1.png", "caption": "a dog, running"}, {"image": "2.png", "caption": "x"}]


def test_columns_names_those_of_a_table_without_headings(tmp_path: Path) -> None:
    text = "1.png\ta cat\n2.png\n"
    actual = rows(table(tmp_path, text, "a.tsv", columns=("image", "caption")))
    assert actual[0] == {"image": "1.png", "caption": "a cat"}
    assert "a.tsv:2: 1 cells under 2 headings" in str(actual[1])
    with pytest.raises(UserError, match=r"does not begin with a line of headings: '1.png' names a picture") as caught:
        table(tmp_path, text, "a.tsv")
    assert caught.value.problems[0].hints == ("`columns: [image, ...]` names the columns",)


def test_lines_and_columns_without_anything_are_no_records(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "image,caption,\n1.png,a,\n,,\n  \n2.png,b,\n")) == [
        {"image": "1.png", "caption": "a"},
        {"image": "2.png", "caption": "b"},
    ]


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has two columns 'caption'"):
        table(tmp_path, "caption,caption\na,b\n")
    with pytest.raises(UserError, match="is no text in UTF-8") as caught:
        table(tmp_path, "image,caption\n1.png,a\n".encode("utf-16-le"))
    assert "save it as UTF-8" in caught.value.problems[0].hints[0]
    with pytest.raises(UserError, match="separator"):
        table(tmp_path, "image,caption\n1.png,a\n", separator=",,")
    with pytest.raises(UserError, match="quoting"):
        table(tmp_path, "image,caption\n1.png,a\n", quoting="some")
