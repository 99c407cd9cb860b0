"""The source of a folder of pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose_vlp.data import BadRecord, open_source
from compose_vlp.errors import UserError


def test_pictures_of_all_folders_with_their_texts_and_classes(tmp_path: Path) -> None:
    for name in ("cats/b.JPG", "cats/a.png", "dogs/c.webp", "cats/.hidden.png", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "cats/a.txt").write_text(" a cat\n")
    (tmp_path / "dogs/c.txt").write_bytes(b"\xff")
    source = open_source({"use": "folder", "path": str(tmp_path)})
    assert len(source) == 3
    assert source.record(0) == {
        "image": tmp_path / "cats/a.png",
        "file": "cats/a.png",
        "label": "cats",
        "caption": "a cat",
    }
    assert source.record(1) == {"image": tmp_path / "cats/b.JPG", "file": "cats/b.JPG", "label": "cats"}
    with pytest.raises(BadRecord, match=r"c\.txt: 'utf-8' codec"):
        source.record(2)


def test_a_folder_that_moved_is_empty_or_has_no_picture_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        open_source({"use": "folder", "path": str(tmp_path / "moved")})
    with pytest.raises(UserError, match="is empty"):
        open_source({"use": "folder", "path": str(tmp_path)})
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="no picture lies in"):
        open_source({"use": "folder", "path": str(tmp_path)})


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def files(folder: Path) -> list[str]:
    source = open_source({"use": "folder", "path": str(folder)})
    return [source.record(index)["file"] for index in range(len(source))]


def test_every_ending_that_pillow_has_for_a_kind_that_is_read_is_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    from compose_vlp.data.pictures import FORMATS

    Image.init()
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    touched(tmp_path, *(f"{number}{ending.upper()}" for number, ending in enumerate(sorted(endings))))
    assert len(files(tmp_path)) == len(endings) >= 20


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touched(tmp_path, "elsewhere/5.png", "elsewhere/deep/6.avif", "set/cat/1.png", "other/2.png")
    top = tmp_path / "set"
    (top / "dog").symlink_to("../elsewhere")
    (top / "cat/link.jpg").symlink_to("../../other/2.png")
    (top / "cat/up").symlink_to("..")
    (top / "a").symlink_to("cat")
    (tmp_path / "elsewhere/back").symlink_to("../set/dog")
    (top / "gone.png").symlink_to("nowhere.png")
    assert files(top) == ["cat/1.png", "cat/link.jpg", "dog/5.png", "dog/deep/6.avif"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links/all").symlink_to("../set")
    assert len(files(tmp_path / "links")) == 4


def test_captions_may_end_in_any_case_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    touched(tmp_path, "1.png", "2.PNG")
    (tmp_path / "1.TXT").write_bytes(b"\xef\xbb\xbfa cat\r\n")
    (tmp_path / "2.Txt").write_text("a dog", encoding="utf-16")
    source = open_source({"use": "folder", "path": str(tmp_path)})
    assert [source.record(index)["caption"] for index in range(2)] == ["a cat", "a dog"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens every folder")
def test_a_folder_that_may_not_be_opened_is_told(tmp_path: Path) -> None:
    touched(tmp_path, "1.png", "closed/2.png")
    (tmp_path / "closed").chmod(0)
    source = open_source({"use": "folder", "path": str(tmp_path)})
    (tmp_path / "closed").chmod(0o700)
    assert len(source) == 1
    assert source.notes == ("passed over, since they cannot be opened: closed (Permission denied)",)


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    touched(tmp_path, "1.png", "1.txt", "2.mp4", "3.mp4", "README", "lost.txt", ".git/4.png", "._1.png", "5.eps")
    (tmp_path / "up").symlink_to(".")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    source = open_source({"use": "folder", "path": str(tmp_path)})
    assert len(source) == 1
    assert source.notes == (
        "passed over, being neither pictures nor their captions: 2 .mp4, 1 .eps, 1 without an ending, 1 .txt",
        "passed over, being hidden: 2 files and folders whose names begin with a dot",
        "passed over: 1 links to nothing",
        "passed over, being links to folders that are here already: up",
    )
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match="no picture lies in") as caught:
        open_source({"use": "folder", "path": str(tmp_path)})
    assert "2 .mp4" in caught.value.problems[0].hints[0]
