"""The commands that the pages give for measurements find them, whatever other packages are called."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.racing import flops_of
from benchmarks.turns import Times

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["albef_step", "momentum_distillation_study", "race"])
def test_a_benchmark_is_ours(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_a_race_compares_before_it_times(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import vlmo_step
    from benchmarks.official_order import Paper, run

    monkeypatch.setattr("sys.argv", ["vlmo_step", "--size", "tiny", "--rounds", "1", "--batch", "3"])
    right = {"to_frame": True, "stage": "pairs", "small": vlmo_step.SMALL}
    assert run(Paper("vlmo_base", "vlmo_base", vlmo_step.official, vlmo_step.QUIET, **right)) == 0
    assert "official / ours" in capsys.readouterr().out

    def other(*given: object) -> object:
        losses = vlmo_step.official(*given)
        return {**losses, "mlm": type(losses["mlm"])(1.01 * losses["mlm"].value)}

    assert run(Paper("vlmo_base", "vlmo_base", other, vlmo_step.QUIET, **right)) == 1
    printed = capsys.readouterr().out
    assert "the numbers differ" in printed and "official / ours" not in printed


def test_products_of_attention_count_on_a_cpu() -> None:
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    counted = flops_of(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward())
    assert counted == 3 * 2 * (2 * 2 * 3 * 5 * 5 * 8), "two products of the forward, four of the backward"


def test_transformers_towers_make_blips_losses_and_gradients() -> None:
    from benchmarks.blip_step import PAPER
    from benchmarks.official_order import Bench
    from benchmarks.racing import EXACT, _agree, in_float64

    bench = Bench(PAPER, argparse.Namespace(size="tiny", batch=4, words=(8, 20), without=[]))
    results = {}
    for name in ("ours", "transformers", "transformers+"):
        candidate = bench.make(name)
        candidate.model.double()
        results[name] = candidate.gradients(in_float64(bench.data[0]))
    assert _agree(results, EXACT, EXACT)


def test_inference_is_compared_before_it_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import inference

    monkeypatch.setattr("sys.argv", ["inference", "--size", "tiny", "--pictures", "4", "--rounds", "1"])
    assert inference.main() == 0
    notes = capsys.readouterr().out.splitlines()
    rows = [line.strip("|").split("|") for line in notes if "/s" in line]
    assert [row[0].split()[0] for row in rows] == ["BLIP,", "albef:", "blip:", "BLIP,", "BLIP,"]
    assert all("64 of 64" in row[-1] or float(row[-1]) < 1e-5 for row in rows)


def test_depth_is_that_of_all_towers() -> None:
    from benchmarks import albef_step, coca_step

    depths = {line.split(".")[1]: line.split("=")[1] for line in albef_step.PAPER.layers(4)}
    assert depths == {"vision": "4", "text": "2", "fusion": "2"}
    configs, overrides = coca_step.shape(coca_step.command_line().parse_args(["--depth", "3"]))
    assert [configs[part]["layers"] for part in ("vision_cfg", "text_cfg", "multimodal_cfg")] == [3, 3, 3]
    assert overrides == [f"components.{tower}.depth=3" for tower in ("vision", "unimodal", "multimodal")]
    assert coca_step.shape(coca_step.command_line().parse_args([]))[1] == []


def test_open_clips_numbers_are_compared_before_its_steps_take_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import coca_step

    turns = {"open_clip": {"ours": [1.0, 1.0], "open_clip": [2.0, 3.0]}}
    monkeypatch.setattr(coca_step, "pairs_of_times", lambda *_: turns)
    assert coca_step.main(["--size", "tiny", "--rounds", "2", "--batch", "2"]) == 0
    printed = capsys.readouterr().out
    assert "ours and open_clip+: losses differ by" in printed
    assert "open_clip / ours: 2.50 (pair by pair 2.00 to 3.00); FLOPs of ours 0." in printed


def test_a_race_of_curves_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import curves

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        pairs = {"official": {"ours": [1.0], "official": [2.0]}, "official+": {"ours": [3.0], "official+": [4.0]}}
        Path(command[command.index("--json") + 1]).write_text(json.dumps({"seconds": pairs}), encoding="utf-8")
        assert command[2] == "benchmarks.albef_step"
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(curves.subprocess, "run", run)
    arguments = argparse.Namespace(size="tiny", rounds=1)
    assert curves.measure(curves.Point("albef", 2, 8, 1), arguments) == {
        "ours": [1.0], "official": [2.0], "official+": [4.0]
    }  # fmt: skip


def test_curves_go_on_with_the_points_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import curves

    def measured(point: curves.Point, _: object) -> Times:
        if point.processes:
            return {"ours": [0.5 * point.processes]}
        opponent = "official" if point.paper == "albef" else "open_clip"
        return {"ours": [1.0], opponent: [1.5], f"{opponent}+": [1.25]}

    grid = curves.Grid((2,), (8,), (1,), (1, 2), (2, 8, 1))
    monkeypatch.setitem(curves.GRIDS, "tiny", grid)
    monkeypatch.setattr(curves, "measure", measured)
    line = ["--size", "tiny", "--rounds", "1", "--out", str(tmp_path)]
    assert curves.main(line) == 0
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert files.keys() == {"curves.json", "curves.md", "curves.svg"}
    page = files["curves.md"].decode()
    assert "| layers of a tower | ours, s | official, s | official+, s | official / ours |" in page
    assert "| open_clip+, s | open_clip / ours |" in page
    assert "| 2 | 1 | 4 |" in page, "processes, seconds, rows a second of all"
    assert page.count("\n## ") == 8 and b"layers of a tower" in files["curves.svg"]

    def differs(*_: object) -> None:
        return None

    monkeypatch.setattr(curves, "measure", differs)
    assert curves.main(line) == 0, "nothing is measured again"
    assert files == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    capsys.readouterr()
    monkeypatch.setitem(curves.GRIDS, "tiny", replace(grid, batch=(2, 4)))
    assert curves.main(["albef", *line]) == 1
    assert "not measured: albef, batch 4, words 8, depth 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        curves.main([*line, "--rounds", "2"])
    assert "was measured with rounds 1" in capsys.readouterr().err
