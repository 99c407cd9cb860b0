"""The commands that the pages give for measurements find them, whatever other packages are called."""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.racing import flops_of

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


def test_curves_go_on_with_the_points_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import curves

    grid = curves.Grid((2,), (8,), (1,), (1, 2), (2, 8, 1))
    monkeypatch.setitem(curves.GRIDS, "tiny", grid)
    monkeypatch.setattr(curves, "alone", lambda point, _: {"ours": [0.5 * point.processes]})
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
