"""Files by name, pattern and number; folders that are missing or empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.data.places import find_file, find_files, find_folder
from compose_vlp.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b-8.tar", "b-9.tar", "b-10.tar", "a-08.tar", "a-09.tar", "a-10.tar", "captions.csv"):
        (tmp_path / name).touch()
    return tmp_path


def test_files_come_in_the_order_written_and_those_of_a_pattern_by_name(folder: Path) -> None:
    def names(*patterns: str) -> list[str]:
        return [file.name for file in find_files(tuple(str(folder / pattern) for pattern in patterns))]

    assert names("b-10.tar", "b-8.tar") == ["b-10.tar", "b-8.tar"]
    assert names("a-*.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("b-{8..10}.tar", "a-{08..08}.tar") == ["b-8.tar", "b-9.tar", "b-10.tar", "a-08.tar"]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("a-{08..12}.tar", r"no file '.*a-11\.tar'"), ("*.zip", "no file fits"), ("{1..2}-*.tar", "no file fits")],
)
def test_files_that_are_not_there_are_told(folder: Path, pattern: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        find_files(str(folder / pattern))


@pytest.mark.parametrize("address", ["pipe:cat a.tar", "c:a.tar"])
def test_what_is_no_path_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="is no file of this machine"):
        find_files(address)


def test_a_name_that_is_nearly_right_gets_the_right_one_offered(folder: Path) -> None:
    with pytest.raises(UserError, match="no file") as caught:
        find_file(str(folder / "caption.csv"))
    assert "did you mean 'captions.csv'?" in caught.value.problems[0].hints


def test_folders_that_are_missing_or_empty_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder '.*moved' of pictures"):
        find_folder(tmp_path / "moved")
    with pytest.raises(UserError, match="is empty"):
        find_folder(tmp_path)


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    assert find_file("~/a.txt") == tmp_path / "a.txt"
    assert find_files("~/*.txt") == [tmp_path / "a.txt"]
    assert find_folder("~") == tmp_path
    with pytest.raises(UserError, match="no file '~nobody-here/a\\.txt'"):
        find_file("~nobody-here/a.txt")
