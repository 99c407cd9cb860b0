"""COCO's annotation file and Karpathy's splits: pictures with several captions each, and entries that are broken."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.data import BadRecord, Source, open_source
from compose_vlp.errors import UserError

COCO: dict[str, list[Any]] = {
    "images": [
        {"id": 9, "file_name": "000009.jpg", "height": 480, "width": 640},
        {"id": 4, "file_name": "000004.jpg"},
        {"id": 5, "file_name": "000005.jpg"},
        {"file_name": "no id"},
    ],
    "annotations": [
        {"id": 1, "image_id": 4, "caption": "A cat. "},
        {"id": 2, "image_id": 9, "caption": "A dog."},
        {"id": 3, "image_id": 4, "caption": "The cat."},
        {"id": 4, "image_id": 77, "caption": "Nothing."},
        {"id": 5, "image_id": 4, "caption": 8},
    ],
}
SPLITS: dict[str, list[Any]] = {
    "images": [
        {"filepath": "val2014", "filename": "a.jpg", "imgid": 0, "split": "test", "sentences": [{"raw": "one"}]},
        {"filepath": "train2014", "filename": "b.jpg", "imgid": 1, "split": "train", "sentences": [{"raw": "b "}] * 2},
        {"filename": "c.jpg", "imgid": 2, "split": "restval", "sentences": [{"raw": "c"}]},
        {"filename": "d.jpg", "split": "train"},
        {"sentences": "no split"},
    ]
}


def opened(folder: Path, use: str, content: object, **settings: object) -> Source:
    (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures/one.jpg").touch()
    settings = {"images": str(folder / "pictures"), **settings}
    return open_source({"use": use, "path": str(folder / "a.json"), **settings})


def broken(source: Source) -> dict[int, str]:
    actual = {}
    for index in range(len(source)):
        try:
            source.record(index)
        except BadRecord as error:
            actual[index] = str(error)
    return actual


def test_coco_has_a_record_for_each_picture_with_all_captions(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(opened(tmp_path, "coco_captions", COCO)))
    assert source.record(1) == {
        "image": tmp_path / "pictures/000004.jpg",
        "caption": ["A cat.", "The cat."],
        "captions": ["A cat.", "The cat."],
        "id": 4,
        "file": "000004.jpg",
    }
    wrong = broken(source)
    assert len(source) == 6
    assert sorted(wrong) == [2, 3, 4, 5]
    for index, says in {2: "has no caption", 3: "entry 3 of `images`", 4: "picture 77", 5: "entry 4 of `ann"}.items():
        assert says in wrong[index]


def test_coco_by_captions_has_a_record_for_each(tmp_path: Path) -> None:
    source = opened(tmp_path, "coco_captions", COCO, each="caption")
    assert [source.record(i)["caption"] for i in range(3)] == ["A dog.", "A cat.", "The cat."]
    assert source.record(2)["captions"] == ["A cat.", "The cat."]
    assert sorted(broken(source)) == [3, 4, 5, 6]


def test_karpathys_splits_are_chosen_and_folders_are_in_the_path(tmp_path: Path) -> None:
    source = opened(tmp_path, "karpathy", SPLITS)
    assert source.record(0)["image"] == tmp_path / "pictures/train2014/b.jpg"
    assert source.record(0)["caption"] == ["b", "b"]
    assert sorted(broken(source)) == [1, 2]
    both = opened(tmp_path, "karpathy", SPLITS, split=("train", "restval"))
    assert [both.record(i)["file"] for i in (0, 1)] == ["train2014/b.jpg", "c.jpg"]
    assert opened(tmp_path, "karpathy", SPLITS, split="test").record(0)["id"] == 0


@pytest.mark.parametrize(
    ("use", "content", "says"),
    [
        ("coco_captions", "{", "is no JSON"),
        ("coco_captions", "[1]", "has no list 'images'"),
        ("coco_captions", {"images": []}, "has no list 'annotations'"),
        ("coco_captions", {"images": [], "annotations": []}, "names no picture"),
        ("karpathy", {"annotations": []}, "has no list 'images'"),
        ("karpathy", {"images": []}, "has no split 'train'"),
    ],
)
def test_files_of_another_form_are_told(tmp_path: Path, use: str, content: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        opened(tmp_path, use, content)


def test_a_folder_that_moved_or_was_emptied_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder '.*moved'"):
        opened(tmp_path, "karpathy", SPLITS, images=str(tmp_path / "moved"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="is empty"):
        opened(tmp_path, "coco_captions", COCO, images=str(tmp_path / "bare"))
