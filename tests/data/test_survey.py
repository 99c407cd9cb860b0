"""A data set looked over: sizes, lengths, copies, what is broken; and which source reads a file."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compose_vlp.data import BadRecord, Encoded, Record, Source, open_source
from compose_vlp.data.detect_source import is_data, settings_of
from compose_vlp.data.survey import CHUNK, Spread, spread_evenly, survey
from compose_vlp.errors import UserError


class Held(Source):
    """The records that it is given; an exception among them is raised."""

    def __init__(self, *records: Any) -> None:
        super().__init__(None)
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> Record:
        if isinstance(self.records[index], Exception):
            raise self.records[index]
        held: Record = self.records[index]
        return held


def of(*records: Any) -> Any:
    return survey(Held(*records), range(len(records)))


def test_pictures_are_measured_and_copies_counted(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (10, 40)).save(tmp_path / "b.png")
    data = (tmp_path / "a.png").read_bytes()
    actual = of(
        {"image": tmp_path / "a.png"},
        {"image": Encoded(data, "a copy")},
        {"image": lambda: tmp_path / "b.png"},
        {"image": np.zeros((7, 5, 3), np.uint8)},
        {"image": Image.new("RGB", (5, 7))},
    )
    pictures = actual.pictures["image"]
    assert (pictures.count, pictures.copies) == (5, 2)
    assert (pictures.width, pictures.height) == (Spread(5, 10, 30), Spread(7, 20, 40))
    assert pictures.sizes == {"30 x 20": 2, "5 x 7": 2, "10 x 40": 1}


def test_texts_are_measured_and_the_commonest_named() -> None:
    actual = of(
        {"caption": ["a cat", "the cat here"]}, {"caption": "a cat"}, {"caption": " "}, {"caption": {"yes": 0.3}}
    )
    texts = actual.texts["caption"]
    assert (texts.count, texts.empty, texts.copies, texts.repeated) == (5, 1, 1, {"a cat": 2})
    assert texts.words == Spread(0, 2, 3)
    assert texts.each == Spread(1, 1.0, 2)


def test_other_values_are_counted_where_they_are_few() -> None:
    actual = of(*({"label": n % 2 == 0, "n": n, "held": [n]} for n in range(90)))
    assert actual.others == {"label": {"True": 45, "False": 45}, "n": None, "held": None}


def test_broken_records_are_named_and_a_value_with_two_names_is_read_once(tmp_path: Path) -> None:
    asked = []

    def picture() -> np.ndarray[Any, Any]:
        asked.append(1)
        return np.zeros((2, 2, 3), np.uint8)

    actual = of(
        {"image": picture, "jpg": picture},
        BadRecord("line 7 is broken"),
        {"image": tmp_path / "moved.png"},
        {"image": Encoded(b"text", "web.tar:3.jpg")},
    )
    assert (actual.records, actual.read, len(asked)) == (4, 4, 1)
    assert actual.broken[1] == "line 7 is broken"
    assert "moved.png" in actual.broken[2]
    assert actual.broken[3].startswith("web.tar:3.jpg: no picture of a known kind (AVIF, ")
    assert json.loads(json.dumps(actual.as_json()))["broken"]["1"] == "line 7 is broken"


def test_a_programming_error_is_no_broken_record() -> None:
    with pytest.raises(ZeroDivisionError):
        of({"caption": "a"}, ZeroDivisionError())


def test_progress_is_told_and_records_are_spread_evenly() -> None:
    notes: list[int] = []
    survey(Held(*[{"a": "b"}] * (CHUNK + 5)), range(CHUNK + 5), notes.append)
    assert notes == [CHUNK, CHUNK + 5]
    assert list(spread_evenly(10, 4)) == [0, 3, 6, 9]
    assert list(spread_evenly(10, 0)) == list(range(10))
    assert list(spread_evenly(3, 50)) == [0, 1, 2]


# --- which source -------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str = "") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def test_files_are_read_by_their_endings(tmp_path: Path) -> None:
    table = written(tmp_path, "a.csv", "file,back,caption\n1.png,2.jpg,a cat\n")
    assert settings_of(table) == {"use": "csv", "path": table, "pictures": ("file", "back")}
    lines = written(tmp_path, "a.jsonl", '{"image": "1.png", "caption": "a cat"}')
    assert settings_of(lines) == {"use": "jsonl", "path": lines}
    assert settings_of(lines, str(tmp_path)) == {"use": "jsonl", "path": lines, "images": str(tmp_path)}
    assert settings_of("web-{0..3}.tar") == {"use": "webdataset", "path": "web-{0..3}.tar"}
    assert settings_of("a/*.parquet") == {"use": "datasets", "path": "a/*.parquet"}
    with pytest.raises(UserError, match=r"it cannot be seen what 'a\.zip' is"):
        settings_of("a.zip")


def test_annotations_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    coco = written(tmp_path, "coco.json", '{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}')
    karpathy = written(tmp_path, "k.json", '{"images": [{"filename": "1.jpg", "sentences": [], "split": "train"}]}')
    assert settings_of(coco, "p") == {"use": "coco_captions", "path": coco, "images": "p"}
    assert settings_of(karpathy, "p") == {"use": "karpathy", "path": karpathy, "images": "p"}
    with pytest.raises(UserError, match="does not say where its pictures are") as caught:
        settings_of(coco)
    assert caught.value.problems[0].hints == ("`--images FOLDER` does",)


def test_folders_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    written(tmp_path, "pictures/1.png")
    with tarfile.open(tmp_path / "shard.tar", "w"):
        pass
    (tmp_path / "shards").mkdir()
    (tmp_path / "shard.tar").rename(tmp_path / "shards/0.tar")
    written(tmp_path, "said/metadata.csv")
    assert settings_of(str(tmp_path / "pictures"))["use"] == "folder"
    assert settings_of(str(tmp_path / "shards")) == {"use": "webdataset", "path": str(tmp_path / "shards/*.tar")}
    assert settings_of(str(tmp_path / "said"))["use"] == "datasets"


def test_what_is_data_and_what_a_blueprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    assert all(is_data(word) for word in ("pictures", "a.csv", "x/web-{0..9}.tar", "a/*.parquet", "A.JSON"))
    assert not any(is_data(word) for word in ("coca", "tiny/coca", "mine.yaml", "data.pairs.path=a.csv=b"))


def test_real_data(real_data: Any) -> None:
    path = str(real_data("easy_vqa") / "train.jsonl")
    actual = survey(open_source(settings_of(path)), range(0, 3000, 10))
    assert actual.pictures["image"].sizes == {"64 x 64": 300}
    assert actual.texts["question"].words.most < 12
    assert not actual.broken
