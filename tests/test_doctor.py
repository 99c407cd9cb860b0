"""`doctor` says what runs here because it has run it."""

from __future__ import annotations

import collections
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp import doctor
from compose_vlp.components.attention import attend, eager
from compose_vlp.doctor import Finding


def finding_of(findings: Any, topic: str) -> Finding:
    return next(finding for finding in findings if finding.topic.strip() == topic)


def test_it_tells_the_backend_that_auto_takes_and_why() -> None:
    finding = finding_of(doctor.attention(), "attention on cpu, float32")
    assert (finding.found, finding.state) == ("sdpa", "fine")
    assert finding.why == "xformers has no operator for cpu tensors"


def test_one_thread_is_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, shown in ((1, "1 thread"), (2, "2 threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=number: number)
        assert finding_of(doctor._torch(), "cpu").found == shown


def test_each_backend_is_tried_against_eager() -> None:
    findings = list(doctor.attention())
    assert finding_of(findings, "sdpa on cpu").found == "works"
    assert "bfloat16 to" in finding_of(findings, "sdpa on cpu").why
    assert finding_of(findings, "xformers on cpu") == Finding(
        "  xformers on cpu", "not here", "xformers has no operator for cpu tensors", "note"
    )


def test_a_backend_that_gives_other_numbers_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_mask(*tensors: torch.Tensor, **_: Any) -> torch.Tensor:
        return eager.attend(*tensors)

    monkeypatch.setitem(attend.BACKENDS, "sdpa", without_mask)
    assert doctor.tried("sdpa", "cpu").state == "wrong"


def test_a_backend_that_gives_nan_for_an_empty_row_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        return eager.attend(*tensors, **options).masked_fill(~options["valid"].any(1)[:, None, None, None], torch.nan)

    monkeypatch.setitem(attend.BACKENDS, "sdpa", careless)
    finding = doctor.tried("sdpa", "cpu")
    assert finding.state == "wrong"
    assert "nan" in finding.why


def test_a_backend_that_fails_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: torch.Tensor, **__: Any) -> torch.Tensor:
        raise RuntimeError("no kernel image is available\nand much more")

    monkeypatch.setitem(attend.BACKENDS, "sdpa", broken)
    assert doctor.tried("sdpa", "cpu") == Finding(
        "  sdpa on cpu", "fails", "RuntimeError: no kernel image is available", "wrong"
    )


def test_a_variable_that_asks_for_what_is_not_here_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(attend.VARIABLE, "xformers")
    finding = finding_of(doctor.attention(), "attention on cpu, float32")
    assert finding.state == "wrong"
    assert attend.VARIABLE in finding.why


def test_everything_is_looked_at(tmp_path: Path) -> None:
    topics = [finding.topic.strip() for finding in doctor.examine(tmp_path)]
    assert {"platform", "torch", "cpu", "bf16 on cpu", "gpu", "xformers", "tokenizers", "memory", "disk"} <= {
        *topics,
        *(["gpu"] if torch.cuda.is_available() else []),
    }
    assert len(set(topics)) == len(topics)


def test_little_room_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**9, 10**9))
    finding = finding_of(doctor.examine(tmp_path), "disk")
    assert (finding.found, finding.state) == ("1.00 GB free", "note")


def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert finding_of(doctor.examine(tmp_path), "disk").state == "wrong"


def test_lines_stand_in_columns() -> None:
    texts = doctor.as_text([Finding("a", "1", "why"), Finding("long topic", "found it", "", "wrong")], 80)
    assert texts == ["✓ a           1         why", "✗ long topic  found it"]


def test_a_reason_without_room_stands_below_and_a_path_is_never_cut() -> None:
    path = "sqlite:///" + "long/" * 10 + "mlflow.db"
    texts = doctor.as_text([Finding("gpu", "none", "word " * 12), Finding("tracking", path, "can be reached")], 50)
    indent = " " * 12
    reason = ["word word word word word word word", "word word word word word"]  # 38 columns are left
    assert texts[0].splitlines() == ["✓ gpu       none", *(indent + line for line in reason)]
    assert texts[1].splitlines() == [f"✓ tracking  {path}", indent + "can be reached"]


@pytest.mark.parametrize(("free", "state"), [(60e6, "note"), (8e9, "fine")])
def test_little_shared_memory_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, state: str
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * free, free, free))
    line = finding_of(doctor.examine(tmp_path), "shared memory")
    assert line.state == state and "free of" in line.found
    assert ("--shm-size" in line.why) == (state == "note")
