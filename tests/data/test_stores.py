"""Data in object stores: the same records as from a disk, and what is wrong with a store in words."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from compose_vlp.data import BadRecord, Encoded, Source, kept, open_source, stores
from compose_vlp.data.detect_source import is_data, settings_of
from compose_vlp.data.kept import Kept
from compose_vlp.data.mixture import Mixture
from compose_vlp.data.sampler import Order, Position
from compose_vlp.data.source import Runs
from compose_vlp.data.stores import StoreError, StoreFolder, shown_address
from compose_vlp.errors import UserError
from tests.data.test_webdataset import loader, png, shard_of, write_shard

SHARDS = ((0, 20), (20, 1), (21, 11), (32, 30))


@pytest.fixture
def store() -> Iterator[Any]:
    """An empty store in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PATIENCE", 0.3)
    monkeypatch.setattr(stores, "FIRST_WAIT", 0.01)


@pytest.fixture
def shards(store: Any, tmp_path: Path) -> str:
    for number, (first, count) in enumerate(SHARDS):
        name = f"web-{number:03d}.tar"
        store.pipe_file(f"/bucket/{name}", write_shard(tmp_path / name, first, count).read_bytes())
    return "memory://bucket/web-{000..003}.tar"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were fetched."""
    names: list[str] = []
    real = kept._fetch

    def fetch(stored: Any, path: Path) -> None:
        names.append(stored.name)
        real(stored, path)

    monkeypatch.setattr(kept, "_fetch", fetch)
    return names


def opened(path: str, tmp_path: Path, **settings: Any) -> Source:
    return open_source({"use": "webdataset", "path": path, "cache": str(tmp_path / "cache"), **settings})


def batches(source: Source, count: int, **settings: Any) -> list[tuple[int, ...]]:
    return [batch.rows for batch in islice(loader(source, **settings), count)]


def forget(tmp_path: Path, pattern: str = "*.tar") -> None:
    for file in (tmp_path / "cache/files").glob(f"*/{pattern}"):
        file.unlink()


def test_records_are_those_of_the_same_shards_on_a_disk(shards: str, tmp_path: Path) -> None:
    there, here = opened(shards, tmp_path), opened(str(tmp_path / "web-{000..003}.tar"), tmp_path)
    assert len(there) == len(here) == 62
    for number in (61, 0, 19, 20, 32):
        a, b = there.record(number), here.record(number)
        assert a.keys() == b.keys() and a["caption"] == b["caption"]
        assert a["image"]().data == b["image"]().data
        assert a["image"]().name.startswith("memory://bucket/web-")
    assert opened("memory://bucket/web-*.tar", tmp_path).record(61)["caption"] == "61"


def test_batches_depend_neither_on_workers_nor_on_processes_and_go_on_to_the_record(
    shards: str, tmp_path: Path
) -> None:
    source = opened(shards, tmp_path, at_once=3)
    whole = batches(source, 30, batch=4)
    assert batches(source, 30, batch=4, workers=2) == whole
    ranks = [batches(source, 30, batch=2, rank=rank, world=2, workers=rank) for rank in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole
    stopped = loader(source, workers=2)
    assert [batch.rows for batch in islice(stopped, 7)] == whole[:7]
    resumed = loader(source, workers=1)
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.rows for batch in islice(resumed, 23)] == whole[7:]
    other = loader(opened(shards, tmp_path, at_once=2))
    with pytest.raises(UserError, match=r"shuffled among \[3\] shards at once when this run stopped, and \[2\] now"):
        other.load_state_dict(stopped.state_dict())


@pytest.mark.parametrize(("sizes", "at_once"), [((7, 9, 30, 2), 3), ((50,), 4), ((1,) * 130, 16), ((5, 43), 2)])
def test_an_epoch_has_every_record_once_and_each_process_few_shards(sizes: tuple[int, ...], at_once: int) -> None:
    runs = Runs(np.cumsum(sizes), at_once)
    records, batch = int(runs.ends[-1]), 4 * at_once
    order = partial(Order, records, seed=3, runs=(runs,))
    assert sorted(order(1).permutation(1)) == list(range(records))
    epoch = order(batch).permutation(1)
    assert len(set(epoch.tolist())) == len(epoch) == records // batch * batch
    assert not np.array_equal(epoch, order(batch).permutation(2))
    ranks = [order(4, rank=rank, world=at_once) for rank in range(at_once)]
    met = [
        {runs.of(row) for plan in islice(share.plans(Position()), share.batches) for row in plan.rows}
        for share in ranks
    ]
    assert sum(map(len, met)) <= len(sizes) + at_once, "a run is read by two processes only where a lane ends in it"
    for share in ranks:
        plan = next(iter(share.plans(Position())))
        assert {runs.of(row) for row in islice(share.substitutes(plan), 3)} <= {runs.of(row) for row in plan.everyone}


def test_shards_of_a_mixture_keep_its_weights(shards: str, tmp_path: Path) -> None:
    drawn = open_source({"use": "scenes", "count": 40, "size": 8})
    mixed = Mixture({"web": opened(shards, tmp_path, at_once=2), "drawn": drawn}, {"web": 3, "drawn": 1})
    order = Order(len(mixed), 6, 0, parts=mixed.parts, runs=mixed.runs)
    rows = np.concatenate([order.permutation(epoch) for epoch in range(8)])
    assert np.mean(rows < 62) == pytest.approx(0.75, abs=0.02)
    counts = Counter(rows[rows < 62].tolist())
    assert len(counts) == 62 and max(counts.values()) - min(counts.values()) <= 2
    assert sorted(order.firsts_of([range(102)])) == [0, 20, 21, 32]


def test_a_file_is_fetched_once_and_the_longest_unused_make_room(
    shards: str, tmp_path: Path, fetched: list[str]
) -> None:
    largest = max(stores.look_up(f"memory://bucket/web-{number:03d}.tar").size for number in range(4))
    source = opened(shards, tmp_path, keep_gb=2.2 * largest / 1e9)
    assert source.runs[0] is not None and source.runs[0].at_once == 1
    assert sorted(fetched) == [f"web-{n:03d}.tar" for n in range(4)], "indices are made of what is fetched anyway"
    assert sum(file.stat().st_size for file in (tmp_path / "cache/files").glob("*/*.tar")) <= 2.2 * largest
    fetched.clear()
    batches(source, 30)
    assert len(fetched) <= 10, "two epochs of four shards, and what was fetched ahead"
    with pytest.raises(UserError, match="has no room for two shards"):
        opened(shards, tmp_path, keep_gb=1.5 * largest / 1e9)


def test_indices_in_the_store_serve_every_machine(shards: str, tmp_path: Path, fetched: list[str]) -> None:
    assert len(opened(shards, tmp_path, index="memory://bucket/index")) == 62
    fetched.clear()
    again = opened(shards, tmp_path / "another", index="memory://bucket/index/")
    assert len(again) == 62 and not fetched


def test_a_shard_that_changed_is_indexed_anew(shards: str, store: Any, tmp_path: Path) -> None:
    assert len(opened(shards, tmp_path)) == 62
    store.pipe_file("/bucket/web-001.tar", write_shard(tmp_path / "new.tar", 100, 5).read_bytes())
    assert opened(shards, tmp_path).record(24)["caption"] == "104"


def test_shards_that_are_missing_or_refused_are_named_before_anything_is_read(
    shards: str, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"memory://bucket/web-004\.tar: there is no such file"):
        opened("memory://bucket/web-{000..004}.tar", tmp_path)
    with pytest.raises(UserError, match=r"no file fits memory://bucket/other-\*"):
        opened("memory://bucket/other-*.tar", tmp_path)
    monkeypatch.setattr(type(store), "info", _raising(PermissionError("Forbidden")))
    with pytest.raises(UserError, match=r"the store refuses \(Forbidden\)") as caught:
        opened(shards, tmp_path)
    assert "AWS_PROFILE" in caught.value.problems[0].hints[0]


def _raising(error: Exception) -> Any:
    def raises(*_: Any, **__: Any) -> Any:
        raise error

    return raises


def test_a_store_that_throttles_is_asked_again_and_one_that_stays_away_ends_the_run(
    shards: str, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    source = opened(shards, tmp_path)
    forget(tmp_path)
    real, failures = type(store).open, iter([OSError(16, "Slow Down"), TimeoutError(), ConnectionResetError()])

    def throttling(self: Any, *args: Any, **settings: Any) -> Any:
        for error in failures:
            raise error
        return real(self, *args, **settings)

    monkeypatch.setattr(type(store), "open", throttling)
    assert source.record(3)["caption"] == "3"
    monkeypatch.setattr(type(store), "open", _raising(OSError("503 Service Unavailable")))
    with pytest.raises(UserError, match=r"memory://bucket/web-00\d\.tar: 503 Service Unavailable") as caught:
        list(islice(loader(source, workers=1), 40))
    assert "--resume" in caught.value.problems[0].hints[0]


def test_a_transfer_that_breaks_off_goes_on_where_it_was(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(stores, "BLOCK", 1000)
    data = np.random.default_rng(0).bytes(7500)
    store.pipe_file("/bucket/a.bin", data)
    starts: list[int] = []

    class Breaking:
        def __init__(self, start: int) -> None:
            starts.append(start)
            self.at, self.left = start, 2

        def read(self, size: int) -> bytes:
            if self.left == 0:
                raise ConnectionResetError("reset by peer")
            self.left -= 1
            self.at += size
            return data[self.at - size : self.at]

        def close(self) -> None: ...

    monkeypatch.setattr(stores, "open_stored", lambda _, start: Breaking(start))
    got = Kept(tmp_path).get(stores.look_up("memory://bucket/a.bin"))
    assert got.read_bytes() == data and starts == [0, 2000, 4000, 6000, 7500]
    assert not list(tmp_path.glob("*/*.part"))


def test_a_shard_that_vanishes_costs_its_records_and_too_many_end_the_run(
    shards: str, store: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = opened(shards, tmp_path)
    forget(tmp_path, "web-001.tar")
    store.rm("/bucket/web-001.tar")
    with pytest.raises(BadRecord, match=r"web-001\.tar: there is no such file"):
        source.record(20)
    with caplog.at_level(logging.WARNING):
        assert all(20 not in rows for rows in batches(source, 15, skip_limit=0.1))
    assert "skipped record 20: memory://bucket/web-001.tar: there is no such file" in caplog.text
    forget(tmp_path)
    store.rm("/bucket/web-003.tar")
    with pytest.raises(UserError, match="records are broken, more than the limit"):
        batches(source, 15)


def test_a_transfer_cut_short_and_a_shard_cut_short_are_told(store: Any, tmp_path: Path) -> None:
    data = write_shard(tmp_path / "a.tar", 0, 20).read_bytes()
    store.pipe_file("/bucket/a.tar", data[: len(data) // 2 + 100])
    source = opened("memory://bucket/a.tar", tmp_path)
    with pytest.raises(BadRecord, match=r"memory://bucket/a\.tar:.*the shard ends early"):
        source.record(len(source) - 1)
    stored = stores.Stored("memory://bucket/a.tar", len(data), "v")
    with pytest.raises(StoreError, match="bytes came, where the store says"):
        Kept(tmp_path / "kept").get(stored)


def test_pickles_of_a_store_are_refused(store: Any, tmp_path: Path) -> None:
    store.pipe_file("/bucket/p.tar", shard_of(tmp_path / "p.tar", **{"1.pkl": b"", "1.txt": b"x"}).read_bytes())
    with pytest.raises(UserError, match=r"memory://bucket/p\.tar has members `\.pkl`"):
        opened("memory://bucket/p.tar", tmp_path)


@pytest.mark.parametrize("use", ["csv", "jsonl"])
def test_tables_and_their_pictures_are_read_from_a_store(
    use: str, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ["pictures/0.png", "memory://bucket/set/pictures/0.png", "pictures/none.png", "../a.png", "s3://o/a.png"]
    lines = [f'{{"image": "{name}", "caption": "c"}}' for name in names]
    text = "\n".join(["image,caption", *(f"{name},c" for name in names)] if use == "csv" else lines)
    store.pipe_file(f"/bucket/set/table.{use}", text.encode())
    store.pipe_file("/bucket/set/pictures/0.png", png(7))
    settings = settings_of(f"memory://bucket/set/table.{use}")
    assert settings == {"use": use, "path": f"memory://bucket/set/table.{use}"}
    source = open_source(settings)
    held = source.record(0)["image"]()
    assert held == Encoded(png(7), "memory://bucket/set/pictures/0.png") == source.record(1)["image"]()
    for row, says in ((2, "there is no such file"), (3, "no file below"), (4, "no file below")):
        with pytest.raises(BadRecord, match=says):
            source.record(row)["image"]()
    store.pipe_file(f"/bucket/set/broken.{use}", b"image,caption\na\n" if use == "csv" else b"{1")
    broken = open_source({"use": use, "path": f"memory://bucket/set/broken.{use}"})
    with pytest.raises(BadRecord, match="memory://bucket/set/broken"):
        broken.record(0)


def test_a_folder_of_a_store_is_its_shards(shards: str, store: Any) -> None:
    assert is_data("memory://bucket") and is_data("s3://bucket/web")
    assert settings_of("memory://bucket/") == {"use": "webdataset", "path": "memory://bucket/*.tar"}
    assert settings_of(shards) == {"use": "webdataset", "path": shards}
    store.pipe_file("/other/readme", b"x")
    with pytest.raises(UserError, match="no folder with tar shards"):
        settings_of("memory://other")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://key:word@bucket/a.tar", "with a name or a password in it"),
        ("simplecache::s3://bucket/a.tar", r"is no file of this machine|chains stores"),
        ("nowhere://bucket/a.tar", "no store is called 'nowhere'"),
    ],
)
def test_addresses_that_cannot_be_are_refused_without_their_secrets(address: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as caught:
        opened(address, tmp_path)
    assert "word" not in str(caught.value).replace("password", "")


def test_what_signs_an_address_is_not_shown() -> None:
    assert shown_address("https://me:pw@host/a.tar?sig=abc and more") == "https://host/a.tar?... and more"
    assert str(StoreFolder("https://host/f?token=1")) == "https://host/f?..."
    assert "sig" not in str(StoreError("https://host/a?sig=1", "absent", "there is no such file"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def test_a_web_server_is_a_store(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    write_shard(tmp_path / "web-0.tar", 0, 5)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        source = opened(f"{address}/web-0.tar?sig=secret", tmp_path)
        assert source.record(4)["caption"] == "4"
        with pytest.raises(UserError, match=r"web-1\.tar\?\.\.\.: there is no such file"):
            opened(f"{address}/web-1.tar?sig=secret", tmp_path)
        server.shutdown()


def test_shards_of_amazons_store_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="the extra `stores` is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    import botocore.session

    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    try:
        host, port = served.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "hush",
            "AWS_DEFAULT_REGION": "us-east-1",
            "XDG_CACHE_HOME": str(tmp_path / "home"),
        }.items():
            monkeypatch.setenv(name, value)
        client = botocore.session.get_session().create_client("s3")
        client.create_bucket(Bucket="bucket")
        for number, (first, count) in enumerate(SHARDS):
            body = write_shard(tmp_path / "s.tar", first, count).read_bytes()
            client.put_object(Bucket="bucket", Key=f"set/web-{number:03d}.tar", Body=body)
        client.put_object(Bucket="bucket", Key="set/t.csv", Body=b"image,caption\np.png,seven\n")
        client.put_object(Bucket="bucket", Key="set/p.png", Body=png(7))
        _read_from_amazons_store(tmp_path)
    finally:
        served.stop()


def _read_from_amazons_store(tmp_path: Path) -> None:
    source = opened("s3://bucket/set/web-{000..003}.tar", tmp_path, at_once=2, index="s3://bucket/index")
    assert len(source) == 62 and source.record(61)["caption"] == "61"
    assert batches(source, 8, workers=2) == batches(source, 8)
    assert len(opened("s3://bucket/set/web-*.tar", tmp_path / "new", index="s3://bucket/index")) == 62
    assert not list((tmp_path / "new/cache/files").glob("*/*.tar"))
    assert open_source(settings_of("s3://bucket/set/t.csv")).record(0)["image"]().data == png(7)
    with pytest.raises(UserError, match=r"s3://bucket/set/web-004\.tar: there is no such file"):
        opened("s3://bucket/set/web-{000..004}.tar", tmp_path)
    with pytest.raises(UserError, match=r"there is no such file|no file fits"):
        opened("s3://no-such-bucket/*.tar", tmp_path)
