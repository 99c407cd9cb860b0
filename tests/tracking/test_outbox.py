from __future__ import annotations

import errno
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.tracking.outbox import Outbox, count_lines, has_ended, is_line_start, last_record, read
from compose_vlp.tracking.records import Metrics, Record, StatusChange, Tags, encode


def metrics(step: int) -> Metrics:
    return Metrics(step, 1_700_000_000_000 + step, {"loss": step / 7})


def records(path: Path, start: int = 0) -> list[Record | None]:
    return [entry.record for entry in read(path, start)]


def test_what_is_added_is_read_in_order_from_any_place(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box")
    for step in range(3):
        outbox.add(metrics(step))
    entries = list(read(tmp_path / "box", 0))
    assert [entry.record for entry in entries] == [metrics(0), metrics(1), metrics(2)]
    assert records(tmp_path / "box", entries[1].end) == [metrics(2)]
    assert count_lines(tmp_path / "box", entries[0].end) == 2
    outbox.close()


def test_a_box_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert records(tmp_path / "box") == []
    assert count_lines(tmp_path / "box", 0) == 0
    assert last_record(tmp_path / "box") is None
    assert is_line_start(tmp_path / "box", 0)
    assert not is_line_start(tmp_path / "box", 10)


def test_reading_stops_at_its_limit_and_goes_on_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box")
    for step in range(100):
        outbox.add(metrics(step))
    first = list(read(tmp_path / "box", 0, limit_bytes=500))
    assert 0 < len(first) < 100
    rest = list(read(tmp_path / "box", first[-1].end))
    assert [entry.record for entry in first + rest] == [metrics(step) for step in range(100)]
    outbox.close()


def test_a_line_left_half_written_by_a_dying_process_is_cut_away(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(encode(metrics(1)) + encode(metrics(2))[:-9])
    assert records(path) == [metrics(1)]
    outbox = Outbox(path)
    outbox.add(metrics(3))
    outbox.close()
    assert records(path) == [metrics(1), metrics(3)]


def test_a_long_half_line_is_cut_away_too(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(encode(metrics(1)) + b"x" * 10_000)
    Outbox(path).close()
    assert path.read_bytes() == encode(metrics(1))
    path.write_bytes(b"x" * 10_000)
    Outbox(path).close()
    assert path.read_bytes() == b""


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(encode(metrics(1)) + b'{"kind":"metr\xff\n[]\n{"kind":"news"}\n' + encode(metrics(2)))
    assert records(path) == [metrics(1), None, None, None, metrics(2)]


def test_the_reader_never_sees_a_part_of_a_line(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box")
    writer = threading.Thread(target=lambda: [outbox.add(metrics(step)) for step in range(3000)])
    writer.start()
    seen: list[Record | None] = []
    place = 0
    while writer.is_alive() or place < (tmp_path / "box").stat().st_size:
        for entry in read(tmp_path / "box", place):
            seen.append(entry.record)
            place = entry.end
    assert seen == [metrics(step) for step in range(3000)]
    outbox.close()


def test_a_run_has_ended_when_its_last_word_is_how(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box")
    outbox.add(StatusChange("RUNNING", 1))
    outbox.add(Tags({"note": "x" * 10_000}))
    assert not has_ended(tmp_path / "box")
    outbox.add(StatusChange("KILLED", 2))
    assert has_ended(tmp_path / "box")
    outbox.add(StatusChange("RUNNING", 3))
    assert not has_ended(tmp_path / "box")
    outbox.close()


def test_a_place_inside_a_line_is_told_from_one_between_lines(tmp_path: Path) -> None:
    line = encode(metrics(1))
    (tmp_path / "box").write_bytes(line + line)
    assert is_line_start(tmp_path / "box", len(line))
    assert not is_line_start(tmp_path / "box", len(line) + 1)
    assert not is_line_start(tmp_path / "box", 2 * len(line) + 1)


@pytest.mark.parametrize("manner", ["refuses", "takes a part"])
def test_a_full_disk_delays_lines_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, manner: str
) -> None:
    path = tmp_path / "box"
    outbox = Outbox(path)
    outbox.add(metrics(0))
    pwrite = os.pwrite

    def full(handle: int, data: bytes, place: int) -> int:
        if manner == "refuses":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(handle, data[:5], place)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "pwrite", full)
        for step in range(1, 5):
            outbox.add(metrics(step))
    assert outbox.waiting == 4
    assert len(caplog.records) == 1, "said once, not at every step"
    assert "No space left on device" in caplog.text
    assert records(path) == [metrics(0)]
    assert path.read_bytes() == encode(metrics(0))
    outbox.add(metrics(5))
    assert outbox.waiting == 0
    outbox.close()
    assert records(path) == [metrics(step) for step in range(6)]


def test_what_memory_cannot_hold_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose_vlp.tracking.outbox._WAITING_LINES", 3)
    outbox = Outbox(tmp_path / "box")

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for step in range(5):
            outbox.add(metrics(step))
    assert (outbox.waiting, outbox.dropped) == (3, 2)
    outbox.close()
    assert records(tmp_path / "box") == [metrics(2), metrics(3), metrics(4)]


def test_a_closed_box_takes_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box")
    outbox.close()
    with pytest.raises(RuntimeError, match="has ended"):
        outbox.add(metrics(1))


def test_adding_takes_far_less_than_a_millisecond(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box")
    values = {f"train/metric {n}": n / 3 for n in range(20)}
    times = []
    for step in range(2000):
        started = time.perf_counter()
        outbox.add(Metrics(step, 0, values))
        times.append(time.perf_counter() - started)
    outbox.close()
    assert sorted(times)[len(times) // 2] < 0.001
