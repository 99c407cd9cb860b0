"""Tar shards: the records that the webdataset library reads, any of them at once; shards that are broken."""

from __future__ import annotations

import gzip
import io
import json
import logging
import pickle
import tarfile
from itertools import islice
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
from compose_vlp.data.shards import open_shard
from compose_vlp.errors import UserError


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), (number % 256, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def write_shard(path: Path, first: int, count: int) -> Path:
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + count):
            for kind, data in {
                "png": png(number),
                "txt": f" {number} ".encode(),
                "json": json.dumps({"width": 12, "caption": "not this one"}).encode(),
            }.items():
                add(tar, f"web/{number:05d}.{kind}", data)
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def shard_of(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            add(tar, name, data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of 20, 1 and 11 records."""
    for number, (first, count) in enumerate(((0, 20), (20, 1), (21, 11))):
        write_shard(tmp_path / f"web-{number:03d}.tar", first, count)
    return tmp_path


def opened(folder: Path, pattern: str = "web-{000..002}.tar", **settings: Any) -> Source:
    path = str(folder / pattern)
    return open_source({"use": "webdataset", "path": path, "cache": str(folder / "cache"), **settings})


def loader(source: Source, batch: int = 4, **settings: Any) -> Loader:
    inputs = {
        "image": parse_input({"type": "image", "size": 8}),
        "caption": parse_input({"type": "text", "tokenizer": "ids", "max_length": 4}),
    }
    return Loader(source, inputs, {"ids": Ids(Ids.Config(vocab_size=1000))}, batch=batch, **settings)


def test_any_record_is_had_at_once_and_in_workers(folder: Path) -> None:
    source = pickle.loads(pickle.dumps(opened(folder)))
    assert len(source) == 32
    for number in (31, 0, 19, 20, 21):
        record = source.record(number)
        assert (record["key"], record["caption"], record["txt"]) == (f"web/{number:05d}", str(number), str(number))
        assert (record["width"], record["json"]["caption"]) == (12, "not this one")
        held = record["image"]()
        assert isinstance(held, Encoded)
        assert np.asarray(open_picture(held))[0, 0].tolist() == [number, 0, 0]
    with pytest.raises(IndexError):
        source.record(32)


def test_records_are_those_of_the_webdataset_library(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "web-0.tar")) as writer:
        for number in range(7):
            extra = {"seg.PNG": png(number), "cls": number} if number % 2 else {"bin": b"\0\1"}
            writer.write({"__key__": f"a/b.c/{number}", "jpg": np.full((4, 4, 3), 9, np.uint8), "txt": "é", **extra})
    with tarfile.open(tmp_path / "web-0.tar", "a") as tar:
        add(tar, "README", b"no dot, so no record")
        add(tar, "last.txt", b"alone")
    samples = list(webdataset.WebDataset(str(tmp_path / "web-0.tar"), shardshuffle=False))
    ours = opened(tmp_path, "web-0.tar")
    assert len(ours) == len(samples) == 8
    for number, sample in enumerate(samples):
        record = ours.record(number)
        assert record["key"] == sample["__key__"]
        kinds = {kind for kind in sample if not kind.startswith("__")}
        assert kinds <= set(record)
        for kind in kinds - {"txt", "cls"}:
            held = record[kind]()
            assert (held.data if isinstance(held, Encoded) else held) == sample[kind]
        assert record["caption"] == sample["txt"].decode()
        assert record.get("label") == (int(sample["cls"]) if "cls" in sample else None)
    assert "image" in ours.record(1), "of two pictures, the one that is called by its format alone"


def test_hidden_files_are_no_records(tmp_path: Path) -> None:
    shard_of(tmp_path / "web-0.tar", **{"a/._1.txt": b"a Mac's", "a/1.txt": b"one", ".a": b""})
    assert [record["key"] for record in [opened(tmp_path, "web-0.tar").record(0)]] == ["a/1"]
    assert len(opened(tmp_path, "web-0.tar")) == 1


def test_the_index_is_kept_and_made_anew_when_the_shard_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder)
    with monkeypatch.context() as patch:
        patch.setattr("compose_vlp.data.shards.index_shard", None)
        assert len(opened(folder)) == 32
    write_shard(folder / "web-001.tar", 20, 5)
    assert len(opened(folder)) == 36
    for kept in (folder / "cache").iterdir():
        kept.write_bytes(kept.read_bytes()[:100])
    assert len(opened(folder)) == 36


def test_a_cache_that_cannot_be_written_costs_only_time(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "cache").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(opened(folder)) == 32
    assert "is not kept for the next time" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 8, 13])
def test_resumed_in_mid_epoch_it_is_the_same_trajectory(folder: Path, stop: int, workers: int) -> None:
    whole = [batch.rows for batch in islice(loader(opened(folder), seed=2), 20)]
    data_loader = loader(opened(folder), seed=2, workers=workers)
    begun = [batch.rows for batch in islice(data_loader, stop)]
    other = loader(opened(folder), seed=2, workers=workers)
    other.load_state_dict(data_loader.state_dict())
    assert begun + [batch.rows for batch in islice(other, 20 - stop)] == whole


def test_two_processes_share_out_the_shards_records(folder: Path) -> None:
    ranks = [[b.rows for b in islice(loader(opened(folder), rank=rank, world=2), 4)] for rank in range(2)]
    rows = [row for rank in ranks for batch in rank for row in batch]
    assert sorted(rows) == list(range(32))


# --- broken shards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 512, 600, 1500, 3000, 9000, 15_000, 29_000])
def test_a_shard_that_ends_early_loses_its_last_record_alone(folder: Path, cut: int) -> None:
    file = folder / "web-000.tar"
    whole = opened(folder, "web-000.tar")
    ends = [max(sum(place) for place in whole.shards[0].members(i).values()) for i in range(20)]  # type: ignore[attr-defined]
    size = ends[-1] - cut
    file.write_bytes(file.read_bytes()[:size])
    source = opened(folder, "web-000.tar")
    intact = sum(end <= size for end in ends)
    assert intact <= len(source) <= intact + 1
    assert [source.record(i)["caption"] for i in range(len(source) - 1)] == [str(i) for i in range(len(source) - 1)]
    with pytest.raises(BadRecord, match=r"web-000\.tar:web/\d+: the shard ends early"):
        source.record(len(source) - 1)
    assert len(source) - 1 >= intact - 1


def test_rubbish_in_the_middle_ends_the_shard(folder: Path) -> None:
    file = folder / "web-000.tar"
    raw = bytearray(file.read_bytes())
    start = opened(folder, "web-000.tar").shards[0].members(12)["png"][0] - 512  # type: ignore[attr-defined]
    raw[start : start + 512] = b"x" * 512
    file.write_bytes(raw)
    source = opened(folder, "web-000.tar")
    assert len(source) == 12
    with pytest.raises(BadRecord, match="the shard ends early"):
        source.record(11)


def test_early_ends_are_counted_skips_and_training_goes_on(folder: Path) -> None:
    for name, size in (("web-000.tar", 40_000), ("web-001.tar", 100), ("web-002.tar", 20_000)):
        (folder / name).write_bytes((folder / name).read_bytes()[:size])
    source = opened(folder)
    source.skip_limit = 0.5
    data_loader = loader(source, batch=2)
    for _ in islice(data_loader, 20):
        pass
    assert len(data_loader.skipped) == 3
    assert sum("no tar file" in reason for reason in data_loader.skipped.values()) == 1


@pytest.mark.parametrize("content", [b"", b"not a tar" * 200, bytes(10_240)])
def test_a_shard_that_is_none_counts_as_one_broken_record(folder: Path, content: bytes) -> None:
    (folder / "web-001.tar").write_bytes(content)
    source = opened(folder)
    assert len(source) == 32
    with pytest.raises(BadRecord, match=r"web-001\.tar:: (no tar file|the shard is empty)"):
        source.record(20)
    assert source.record(21)["caption"] == "21"


def test_broken_members_are_bad_records_that_name_the_member(tmp_path: Path) -> None:
    shard_of(
        tmp_path / "web-0.tar",
        **{"a.txt": b"\xff\xff", "b.json": b"{", "c.cls": b"cat", "d.png": b"no picture", "e.txt": b"1", "e.TXT": b"2"},
    )
    source = opened(tmp_path, "web-0.tar")
    for number, says in enumerate(("a.txt is no text", "b.json is no JSON", "c.cls: invalid literal")):
        with pytest.raises(BadRecord, match=says):
            source.record(number)
    with pytest.raises(BadRecord, match=r"web-0\.tar:d\.png: no picture of a known kind"):
        open_picture(source.record(3)["image"]())
    with pytest.raises(BadRecord, match="e: two members of one ending"):
        source.record(4)


class Trap:
    """Says so when somebody unpickles it."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("sprung"),))


@pytest.mark.parametrize("ending", ["pyd", "pkl", "vectors.pickle"])
def test_pickles_are_refused_and_never_run(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shard_of(tmp_path / "web-0.tar", **{"a.txt": b"a", f"a.{ending}": pickle.dumps(Trap())})
    with pytest.raises(UserError, match=rf"has members `\.{ending}`, which are pickles"):
        opened(tmp_path, "web-0.tar")
    assert not Path("sprung").exists()


def test_compressed_and_missing_shards_are_told(folder: Path) -> None:
    (folder / "web-001.tar").write_bytes(gzip.compress((folder / "web-001.tar").read_bytes()))
    with pytest.raises(UserError, match=r"web-001\.tar is compressed"):
        opened(folder)
    with pytest.raises(UserError, match=r"no file '.*web-003\.tar'"):
        opened(folder, "web-{000..003}.tar")


def test_what_is_kept_of_a_record_is_a_few_dozen_bytes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "web.tar", "w") as tar:
        for number in range(2000):
            add(tar, f"{number:09d}.jpg", b"")
            add(tar, f"{number:09d}.txt", b"")
    shard = open_shard(tmp_path / "web.tar", tmp_path / "cache")
    assert sum(getattr(shard, name).nbytes for name in shard.ARRAYS) < 100 * len(shard)


@pytest.mark.parametrize(("ending", "kind"), [("avif", "AVIF"), ("jfif", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")])
def test_members_of_every_kind_of_picture_are_the_image(tmp_path: Path, ending: str, kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, kind)
    path = shard_of(tmp_path / "a.tar", **{f"0.{ending}": stream.getvalue(), "0.txt": b"red"})
    source = open_source({"use": "webdataset", "path": str(path), "cache": str(tmp_path / "cache")})
    assert abs(np.asarray(open_picture(source.record(0)["image"]())).astype(int) - [255, 0, 0]).max() < 9


def test_members_of_other_endings_are_pictures_where_an_input_reads_them(tmp_path: Path) -> None:
    path = shard_of(tmp_path / "a.tar", **{"0.photo": png(7), "0.txt": b"red"})
    source = open_source({"use": "webdataset", "path": str(path), "cache": str(tmp_path / "cache")})
    inputs = {"image": parse_input({"type": "image", "size": 4, "from": "photo"})}
    (batch,) = Loader(source, inputs, {}, batch=1, train=False)
    assert batch.rows == (0,)


def test_a_shard_that_shrinks_while_it_is_read_breaks_its_records(tmp_path: Path) -> None:
    path = shard_of(tmp_path / "a.tar", **{"0.png": png(7), "0.txt": b"red"})
    source = open_source({"use": "webdataset", "path": str(path), "cache": str(tmp_path / "cache")})
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(BadRecord, match="cut short since it was indexed"):
        source.record(0)["image"]()
    path.unlink()
    with pytest.raises(BadRecord, match="No such file"):
        source.record(0)
