"""The JSON lines source: fields, pictures, filters, and data that is broken."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.data import BadRecord, open_source
from compose_vlp.errors import UserError


def write(path: Path, *lines: Any) -> Path:
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
    return path


def test_every_key_is_a_field_and_pictures_are_found_beside_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"image": "p/1.png", "sentence": "é"}, {"image": "/x/2.png", "n": 3})
    source = open_source({"use": "jsonl", "path": str(file)})
    assert len(source) == 2
    assert source.record(1) == {"image": Path("/x/2.png"), "n": 3}
    assert source.record(0) == {"image": tmp_path / "p/1.png", "sentence": "é"}


def test_folder_and_picture_fields_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1.png").touch()
    file = write(tmp_path / "a.jsonl", {"left": "1.png", "right": "2.png", "image": "kept as it is"})
    source = open_source(
        {"use": "jsonl", "path": str(file), "images": str(tmp_path / "pictures"), "pictures": ("left", "right")}
    )
    folder = tmp_path / "pictures"
    assert source.record(0) == {"left": folder / "1.png", "right": folder / "2.png", "image": "kept as it is"}


def test_blank_lines_a_last_line_without_end_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    source = open_source({"use": "jsonl", "path": str(file)})
    assert [source.record(i)["a"] for i in range(len(source))] == [1, 2]


def test_it_goes_to_workers_and_reads_in_any_order(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", *({"n": i, "text": "x" * (i % 7)} for i in range(50)))
    source = pickle.loads(pickle.dumps(open_source({"use": "jsonl", "path": str(file)})))
    assert [source.record(i)["n"] for i in (49, 0, 17, 17)] == [49, 0, 17, 17]


def test_only_keeps_the_records_that_read_so(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", *({"n": i, "label": i % 3 == 0, "kind": "ab"[i % 2]} for i in range(12)))
    source = open_source({"use": "jsonl", "path": str(file), "only": {"label": "true", "kind": "a"}})
    assert [source.record(i)["n"] for i in range(len(source))] == [0, 6]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"image": "1.png", ', "no JSON"),
        (b"[1, 2]", "list where a JSON object was expected"),
        (b'{"image": "\xff\xfe"}', "no JSON"),
        (b'{"image": 7}', "image is 7, not the path of a picture"),
        (b'{"image": ""}', "image is '', not the path of a picture"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_line_is_a_bad_record_that_names_it(tmp_path: Path, line: bytes, says: str) -> None:
    file = write(tmp_path / "a.jsonl", {"image": "1.png"}, line, {"image": "2.png"})
    source = open_source({"use": "jsonl", "path": str(file)})
    assert len(source) == 3
    with pytest.raises(BadRecord, match=r"a\.jsonl:2: ") as caught:
        source.record(1)
    assert says in str(caught.value)
    assert source.record(2)["image"].name == "2.png"


def test_a_broken_line_is_not_lost_to_a_filter(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"a": "x"}, b"{", {"a": "y"})
    assert len(open_source({"use": "jsonl", "path": str(file), "only": {"a": "x"}})) == 2


def test_missing_and_empty_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        open_source({"use": "jsonl", "path": str(tmp_path / "moved.jsonl")})
    file = write(tmp_path / "a.jsonl", {"a": 1})
    with pytest.raises(UserError, match="no folder"):
        open_source({"use": "jsonl", "path": str(file), "images": str(tmp_path / "moved")})
    with pytest.raises(UserError, match="has no record with a '2'"):
        open_source({"use": "jsonl", "path": str(file), "only": {"a": "2"}})
    with pytest.raises(UserError, match="has no record"):
        open_source({"use": "jsonl", "path": str(write(tmp_path / "b.jsonl", b"", b" "))})


def test_real_sentences_and_questions(real_data: Callable[[str], Path]) -> None:
    nlvr = open_source({"use": "jsonl", "path": str(real_data("nlvr") / "train.jsonl"), "only": {"label": "true"}})
    every = open_source({"use": "jsonl", "path": str(real_data("nlvr") / "train.jsonl")})
    assert len(every) == 2967
    assert 0 < len(nlvr) < len(every)
    assert nlvr.record(5)["image"].is_file()
    asked = open_source({"use": "jsonl", "path": str(real_data("easy_vqa") / "train.jsonl")})
    assert set(asked.record(0)) >= {"image", "question", "answer"}


# --- lists --------------------------------------------------------------------------------------------------------

VALUES = [
    {"image": "1.png", "caption": "é \U0001f408"},
    {"image": "2.png", "caption": ["a", "b"], "n": 17},
    {"n": [{}]},
]


@pytest.mark.parametrize("window", [1, 7, 1 << 20])
@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"ensure_ascii": False}, {"separators": (",", ":")}])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b" \n"])
def test_a_list_has_the_records_of_its_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, layout: dict[str, Any], mark: bytes
) -> None:
    monkeypatch.setattr("compose_vlp.data.json_places.WINDOW", window)
    (tmp_path / "a.json").write_bytes(mark + json.dumps(VALUES, **layout).encode() + b"\n")
    source = open_source({"use": "jsonl", "path": str(tmp_path / "a.json"), "pictures": ()})
    assert [source.record(index) for index in range(len(source))] == VALUES
    kept = open_source({"use": "jsonl", "path": str(tmp_path / "a.json"), "only": {"n": "17"}})
    assert kept.record(0)["image"] == tmp_path / "2.png"


def test_a_broken_entry_of_a_list_is_a_bad_record_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": 1}, 12, {"a": "\xff"}, {"image": 7}, {"a": 2}]')
    source = open_source({"use": "jsonl", "path": str(tmp_path / "a.json")})
    for index, says in ((1, "int where a JSON object was expected"), (2, "no JSON"), (3, "image is 7")):
        with pytest.raises(BadRecord, match=rf"a\.json, entry {index}: ") as caught:
            source.record(index)
        assert says in str(caught.value)
    assert (len(source), source.record(4)) == (5, {"a": 2})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'[{"a": 1}', r"no JSON list: ',' was expected \(byte 9\)"),
        (b'[{"a": 1}, {"a"', r"no JSON list: .* \(byte 11\)"),
        (b'[{"a": 1} {"a": 2}]', r"no JSON list: ',' was expected \(byte 10\)"),
        (b'[{"a": 1}, ]', r"no JSON list: Expecting value \(byte 11\)"),
        (b'[{"a": 1}]\n[{"a": 2}]', "something follows the list"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "has no record"),
        ('[{"a": 1}]'.encode("utf-16"), "is UTF-16"),
        ('{"a": 1}\n'.encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_file_that_is_no_list_of_objects_is_told(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=says):
        open_source({"use": "jsonl", "path": str(tmp_path / "a.json")})
