"""The benchmark on a GPU, tried on a processor: rows go on after one that failed, and are not measured twice."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.cards import TERA, stated_peak

CHOSEN = ("coca_base, passes", "beit3 retrieval: ours", "beit3 retrieval: torchscale", "coca, recomputed")


@pytest.fixture(scope="module")
def arguments() -> Namespace:
    return gpu._parser().parse_args(["--device", "cpu", "--tiny", "--rounds", "1", "--warm-up", "1"])


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_rows_are_measured_kept_and_set_beside_each_other(tmp_path: Path, arguments: Namespace) -> None:
    rows = gpu.rows(tiny=True)

    def no_memory(batch: int, device: torch.device) -> Any:
        if batch > 1:
            raise torch.OutOfMemoryError("2 GiB")
        raise RuntimeError("a kernel failed")

    def run(row: gpu.Row, batch: int, how: Namespace) -> gpu.Found:
        try:
            return gpu.measure_row(row, batch, how)
        except RuntimeError as error:  # in a process of its own, its last line
            return {"row": row.name, "batch": batch, "beside": row.beside, "failed": str(error)}

    chosen = [gpu.Row("broken", 4, no_memory), *(rows[name] for name in CHOSEN)]
    first = gpu.measure_all(chosen, tmp_path, arguments, run)
    assert (first[0]["batch"], first[0]["failed"]) == (1, "a kernel failed"), "halved until it fits"
    assert all(actual["flops"] > 0 and actual["pictures_s"] > 0 and actual["peak_bytes"] > 0 for actual in first[1:])
    notes = gpu.tables(first, {"card": "none"})
    assert "| beit3 retrieval: torchscale | " in notes and "Geometric mean" in notes
    again = gpu.measure_all(chosen[1:], tmp_path, arguments, lambda *_: pytest.fail("measured twice"))
    assert again == first[1:]
    assert len(list(tmp_path.glob("*.json"))) == len(chosen)


def test_a_row_in_a_process_of_its_own_tells_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, arguments: Namespace
) -> None:
    row = gpu.Row("any", 2, lambda *_: pytest.fail("measured here"))
    for code, out, err, actual in (
        (0, "noise\n" + json.dumps({"row": "any"}), "", {"row": "any"}),
        (
            1,
            "",
            "Traceback\nRuntimeError: no",
            {"row": "any", "batch": 2, "beside": None, "failed": "RuntimeError: no"},
        ),
    ):
        done = Namespace(returncode=code, stdout=out, stderr=err)
        monkeypatch.setattr(gpu.subprocess, "run", lambda *_, done=done, **__: done)
        assert gpu.in_a_process(row, 2, arguments) == actual


def test_other_losses_or_batches_are_not_compared() -> None:
    ours = {"row": "ours", "beside": None, "batch": 4, "step_s": 0.1, "pictures_s": 40.0, "mfu": 0.5, "peak_bytes": 1e9,
            "losses": {"itc": 1.0}}  # fmt: skip
    other = {**ours, "row": "other", "beside": "ours", "pictures_s": 20.0, "losses": {"itc": 2.0}}
    assert "does not count" in gpu.tables([ours, other], {})
    assert "does not count" in gpu.tables([ours, {**other, "losses": ours["losses"], "batch": 2}], {})
    assert "| other | 2.00 | 0.0e+00 |\n\nGeometric mean: 2.00" in gpu.tables(
        [ours, {**other, "losses": {"itc": 1.0}}], {}
    )


@pytest.mark.parametrize(
    ("card", "rate"),
    [("NVIDIA H200", 989), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312),
     ("NVIDIA A10G", 70), ("NVIDIA L4", 121), ("NVIDIA L40S", 362)],
)  # fmt: skip
def test_cards_are_known_by_torchs_names(card: str, rate: int) -> None:
    assert stated_peak(card) == rate * TERA
    assert stated_peak("a toaster") is None
