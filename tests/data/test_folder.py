"""The source of a folder of pictures."""

from __future__ import annotations

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
