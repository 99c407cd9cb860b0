"""The source over Hugging Face's library: local files and folders, pictures left encoded until they are read."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.data import BadRecord, Encoded, Source, open_source
from compose_vlp.data.loader import Loader
from compose_vlp.data.pictures import open_picture
from compose_vlp.data.renamed import Renamed
from compose_vlp.errors import UserError
from tests.data.support import ProgramStarts

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (number, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def rows(count: int) -> Any:
    held = [{"bytes": png(n), "path": f"{n}.png"} for n in range(count)]
    features = {"image": datasets.Image(), "caption": datasets.Value("string")}
    table = {"image": held, "caption": [f"{n}" for n in range(count)]}
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


def opened(path: Path | str, **settings: Any) -> Source:
    return open_source({"use": "datasets", "path": str(path), **settings})


def test_parquet_files_with_pictures_in_them(tmp_path: Path) -> None:
    for number in range(2):
        rows(6).to_parquet(tmp_path / f"part-{number}.parquet")
    source = pickle.loads(pickle.dumps(opened(tmp_path / "part-*.parquet")))
    assert len(source) == 12
    held = source.record(7)["image"]
    assert isinstance(held, Encoded)
    assert (held.data, source.record(7)["caption"]) == (png(1), "1")
    assert len(opened(tmp_path / "part-*.parquet", split="train[:25%]")) == 3
    inputs = {
        "image": parse_input({"type": "image", "size": 4}),
        "caption": parse_input({"type": "text", "tokenizer": "ids", "max_length": 4}),
    }
    batches = [
        next(iter(Loader(source, inputs, {"ids": Ids(Ids.Config(vocab_size=99))}, batch=4, workers=w))) for w in (0, 1)
    ]
    assert batches[0].rows == batches[1].rows
    assert batches[0].values["image"].pixels.equal(batches[1].values["image"].pixels)


def test_json_lines_and_what_the_library_saved(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"n": n, "captions": ["a", "b"]}) for n in range(3)))
    assert opened(tmp_path / "a.jsonl").record(2) == {"n": 2, "captions": ["a", "b"]}
    rows(3).save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows(2), "val": rows(4)}).save_to_disk(tmp_path / "two")
    assert len(opened(tmp_path / "one")) == 3
    assert len(opened(tmp_path / "two", split="val")) == 4
    with pytest.raises(UserError, match="has no split 'test'"):
        opened(tmp_path / "two", split="test")


def test_folders_of_pictures_by_class_and_with_metadata(tmp_path: Path) -> None:
    for name in ("cats/1.png", "dogs/2.png", "dogs/3.png"):
        (tmp_path / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "classes" / name).write_bytes(png(7))
    source = opened(tmp_path / "classes")
    assert [source.record(i)["label"] for i in range(3)] == [0, 1, 1]
    assert source.record(0)["image"] == tmp_path / "classes/cats/1.png"
    (tmp_path / "said").mkdir()
    (tmp_path / "said/1.png").write_bytes(png(7))
    (tmp_path / "said/metadata.csv").write_text("file_name,caption\n1.png,a cat\n")
    captioned = opened(tmp_path / "said")
    assert captioned.record(0)["caption"] == "a cat"
    (tmp_path / "said/1.png").unlink()
    with pytest.raises(BadRecord, match=r"1\.png"):
        open_picture(captioned.record(0)["image"])


def test_pictures_that_are_missing_or_broken_are_bad_records(tmp_path: Path) -> None:
    held = [{"bytes": png(1), "path": "a"}, None, {"bytes": b"no picture", "path": "c"}]
    table = datasets.Dataset.from_dict({"image": held}, features=datasets.Features({"image": datasets.Image()}))
    table.save_to_disk(tmp_path / "one")
    source = opened(tmp_path / "one")
    with pytest.raises(BadRecord, match="row 1, image is empty"):
        source.record(1)
    data_loader = Loader(
        source, {"image": parse_input({"type": "image", "size": 4})}, {}, batch=1, train=False, skip_limit=1
    )
    assert [batch.rows for batch in data_loader] == [(0,)]
    assert "row 2, image (c): no picture of a known kind" in data_loader.skipped[2]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", b"not parquet", "cannot open .*a.parquet"),
        ("a.jsonl", b'{"a": 1}\n{broken', "cannot open .*a.jsonl"),
        ("moved.parquet", None, "no file .*moved.parquet"),
        ("owner/nowhere", None, "cannot open .*nowhere"),
    ],
)
def test_what_cannot_be_opened_is_told(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        opened(tmp_path / name if "/" not in name else name)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="is empty"):
        opened(tmp_path / "bare")


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="needs the library of this name") as caught:
        opened(tmp_path)
    assert "compose-vlp[datasets]" in caught.value.problems[0].hints[0]


def test_array_pictures_are_pictures(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"image": [Image.fromarray(np.full((4, 4, 3), 9, np.uint8))]})
    table.save_to_disk(tmp_path / "one")
    assert isinstance(opened(tmp_path / "one").record(0)["image"], Encoded)


# --- columns of pictures that are not the library's own -----------------------------------------------------------


def shown(source: Source, **fields: Any) -> Loader:
    """All records read by an input of pictures."""
    inputs = {"image": parse_input({"type": "image", "size": 4, **fields})}
    return Loader(source, inputs, {}, batch=9, train=False, skip_limit=1.0)


def parquet(file: Path, **columns: Any) -> Path:
    """A file as any other library writes it, without what `datasets` adds to say what columns are."""
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), file)
    return file


@pytest.mark.parametrize("form", ["binary", "large_binary", "struct", "list", "list of structs"])
def test_plain_columns_of_bytes_are_pictures(tmp_path: Path, form: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    column: Any = [png(number) for number in range(3)]
    if form == "large_binary":
        column = arrow.array(column, arrow.large_binary())
    elif form != "binary":
        held = [{"bytes": data, "path": None} if "struct" in form else data for data in column]
        column = [[item] for item in held] if "list" in form else held
    source = opened(parquet(tmp_path / "a.parquet", jpg=column, txt=["a", "b", "c"]))
    renamed = shown(source, **{"from": "jpg"})
    (batch,) = renamed
    assert batch.rows == (0, 1, 2)
    assert not renamed.skipped
    reds = [number / 255 / 0.5 - 1 for number in range(3)]
    assert batch.values["image"].pixels[:, 0, 0, 0].tolist() == pytest.approx(reds)


def test_the_line_of_the_docs_for_cc3m_reads_what_img2dataset_writes(tmp_path: Path) -> None:
    parquet(tmp_path / "0.parquet", jpg=[png(1), b"broken"], txt=["a red line", "two"], key=["0", "1"])
    source = Renamed(opened(tmp_path / "*.parquet"), {"image": "jpg", "caption": "txt"})
    loader = shown(source)
    assert [batch.rows for batch in loader] == [(0,)]
    assert "image: no picture of a known kind" in loader.skipped[1]
    assert source.record(0)["caption"] == "a red line"


def test_columns_of_floats_are_pictures_as_bright_as_they_are_meant(tmp_path: Path) -> None:
    levels = np.linspace(0, 1, 48).reshape(4, 4, 3).astype(np.float32)
    table = {"image": [levels.tolist(), (levels * 2 - 1).tolist()]}
    for name, feature in (
        ("array", datasets.Array3D((4, 4, 3), "float32")),
        ("lists", datasets.List(datasets.List(datasets.List(datasets.Value("float32"))))),
    ):
        rows = datasets.Dataset.from_dict(table, features=datasets.Features({"image": feature}))
        rows.save_to_disk(tmp_path / name)
        loader = shown(opened(tmp_path / name))
        (batch,) = loader
        assert abs(batch.values["image"].pixels[0].permute(1, 2, 0).numpy() / 2 + 0.5 - levels).max() < 1 / 254
        assert "image holds numbers from -1 to 1, which are no levels of a picture" in loader.skipped[1]


def test_the_library_s_own_decoders_are_never_asked(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n"
    features = datasets.Features({"images": datasets.List(datasets.Image()), "image": {"inner": datasets.Image()}})
    held = {"bytes": eps, "path": "a.jpg"}
    rows = datasets.Dataset.from_dict({"images": [[held]], "image": [{"inner": held}]}, features=features)
    rows.save_to_disk(tmp_path / "one")
    source = opened(tmp_path / "one")
    with ProgramStarts() as starts:
        loader = shown(source, **{"from": "images"})
        assert not list(loader)
    assert not starts.programs
    assert "no picture of a known kind" in loader.skipped[0]
    assert source.record(0)["image"] == {"inner": held}


def test_each_line_of_text_files_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes('a line\n\n   \n caf\u00e9 \r\nno, "quotes" are text'.encode())
    (tmp_path / "b.txt").write_text("last\n", encoding="utf-8")
    source = pickle.loads(pickle.dumps(opened(tmp_path / "*.txt")))
    assert [source.record(n)["text"].strip() for n in range(len(source))] == [
        "a line", "caf\u00e9", 'no, "quotes" are text', "last",
    ]  # fmt: skip
    inputs = {"words": parse_input({"type": "text", "tokenizer": "ids", "max_length": 4, "from": "text"})}
    (tmp_path / "c.txt").write_text("3 4\n5\n", encoding="utf-8")
    batch = next(iter(Loader(opened(tmp_path / "c.txt"), inputs, {"ids": Ids(Ids.Config(vocab_size=99))}, batch=2)))
    assert sorted(batch.values["words"].ids.tolist()) == [[3, 4], [5, 0]]


@pytest.mark.parametrize("content", [b"", b"\n  \n"])
def test_a_text_file_that_says_nothing_has_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"no record|cannot open"):
        opened(tmp_path / "a.txt")


def test_a_text_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="cannot open"):
        opened(tmp_path / "a.txt")
