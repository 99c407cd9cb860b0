"""Referring expressions in their authors' format, on files made here."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compose_vlp.data import open_source
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.errors import UserError


def reference(number: int, split: str, *sentences: str, thing: int = 7) -> dict[str, Any]:
    entries = [
        {"sent": sentence, "raw": sentence.upper(), "tokens": sentence.split(), "sent_id": i}
        for i, sentence in enumerate(sentences)
    ]
    return {"ref_id": number, "ann_id": thing, "image_id": 581, "split": split, "sentences": entries, "category_id": 1}


REFERENCES = [reference(1, "val", "man in red ", "the tall one"), reference(2, "train", "dog", thing=8)]
INSTANCES = {
    "images": [{"id": 581, "file_name": "COCO_train2014_000000000581.jpg", "width": 200, "height": 100}],
    "annotations": [{"id": 7, "image_id": 581, "bbox": [20, 10, 100, 50]}],
}


def opened(folder: Path, references: Any = REFERENCES, split: str = "val", name: str = "refs(unc).p") -> Source:
    (folder / "train2014").mkdir(exist_ok=True)
    Image.new("RGB", (200, 100)).save(folder / "train2014" / "COCO_train2014_000000000581.jpg")
    (folder / "instances.json").write_text(json.dumps(INSTANCES), encoding="utf-8")
    content = references if isinstance(references, bytes) else pickle.dumps(references, protocol=2)
    (folder / name).write_bytes(json.dumps(references).encode() if name.endswith("json") else content)
    paths = {"path": folder / name, "instances": folder / "instances.json", "images": folder / "train2014"}
    return open_source({"use": "refcoco", "split": split, **{key: str(path) for key, path in paths.items()}})


@pytest.mark.parametrize("name", ["refs(unc).p", "refs.json"])
def test_a_record_for_every_sentence_with_the_box_in_shares(tmp_path: Path, name: str) -> None:
    source = opened(tmp_path, name=name)
    assert [source.record(i)["caption"] for i in range(len(source))] == ["man in red", "the tall one"]
    record = source.record(1)
    assert record["box"] == (0.1, 0.1, 0.5, 0.5)
    assert (record["id"], record["reference"], record["image"].is_file()) == (581, 1, True)


def test_a_thing_without_a_box_is_a_broken_record(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="reference 2 has no picture with a box and sentences"):
        opened(tmp_path, split="train").record(0)


class Runs:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"the pickle wants .*print, and a list of references needs none"):
        opened(tmp_path, [Runs()])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("references", "split", "says"),
    [
        (REFERENCES, "testA", "has no split 'testA'"),
        ({"refs": []}, "val", "is no list of references"),
        (b"no pickle", "val", "is no list of references"),
        (b"", "val", "is no list of references"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, references: Any, split: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        opened(tmp_path, references, split)
