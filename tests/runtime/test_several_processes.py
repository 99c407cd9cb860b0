"""Two processes train as one does: the same losses and weights, one run folder, checkpoints that serve both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.conftest import SMALL
from tests.runtime.test_training import STEPS, Watch
from tests.support import assert_near, runs_in_float64, spawn

Load = Callable[..., Blueprint]
LENGTH = ("stages.pretrain.length=5 steps", *STEPS[1:], "optimizer.eps=1e-4")
NOISE = "components.multimodal.dropout=0.1"
SIGMOID = "losses.contrastive={use: sigmoid, scores: [i2t, t2i]}"
BUCKET = "stages.pretrain.bucket=2"


def blueprint(*overrides: str) -> Blueprint:
    return Blueprint.load("tiny/coca", overrides=[*SMALL, *LENGTH, *overrides])


def learn(out: Path, *overrides: str, resume: bool = False) -> dict[str, Any]:
    watch = Watch()
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=2)
    run = blueprint(*overrides).train(out=out, options=options, track=False, listener=watch, resume=resume)
    weights = {name: tensor.tolist() for name, tensor in run.asker.model.state_dict().items()}
    return {"totals": watch.totals, "weights": weights, "folder": str(run.folder.path)}


def in_each(rank: int, out: Path) -> list[dict[str, Any]]:
    """Runs in one go, in pieces, with a loss that learns on texts of like length, with noise, and that again from 4."""
    with runs_in_float64():
        plain = learn(out / "plain")
        cut = learn(out / "cut", "stages.pretrain.accumulate=3")
        sigmoid = learn(out / "sigmoid", SIGMOID, BUCKET)
        divided = learn(out / "divided", "distribute=fsdp", "stages.pretrain.evaluate=5 steps")
    whole = learn(out / "noisy", NOISE)
    torch.distributed.barrier()
    if rank == 0:
        shutil.rmtree(out / "noisy" / "checkpoints" / "step-00000005")
    torch.distributed.barrier()
    torch.rand(3)
    resumed = learn(out / "noisy", NOISE, resume=True)
    return [plain, cut, whole, resumed, learn_with_a_queue(out / "queue"), sigmoid, divided]


def learn_with_a_queue(out: Path) -> dict[str, Any]:
    """Two steps of a small ALBEF: a teacher and a queue, which all processes have to keep alike."""
    overrides = ["inputs.image.size=16", "components.vision.width=32", "components.text.width=32", *LENGTH[1:]]
    overrides += ["components.*.mlp_width=48"]
    overrides += ["components.*_proj.out=24", "components.bert.vocab_size=90", "components.memory.size=24"]
    albef = Blueprint.load("tiny/albef", overrides=[*overrides, "stages.pretrain.length=2 steps"])
    run = albef.train(out=out, options=TrainOptions(seed=1, device="cpu"), track=False)
    weights = {name: tensor.tolist() for name, tensor in run.asker.model.state_dict().items()}
    return {"weights": weights, "folder": str(run.folder.path)}


def assert_same_weights(run: dict[str, Any], other: dict[str, Any]) -> None:
    assert run["weights"].keys() == other["weights"].keys()
    for name, expected in other["weights"].items():
        actual, right = (torch.tensor(numbers, dtype=torch.float64) for numbers in (run["weights"][name], expected))
        assert_near(actual, right, 1e-6, floor=1e-7, what=name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[dict[str, Any]]]]:
    out = tmp_path_factory.mktemp("runs")
    return out, spawn(in_each, out, joined=False)


Runs = tuple[Path, list[list[dict[str, Any]]]]


def test_two_processes_learn_what_one_learns_from_the_whole_batch(runs: Runs, tmp_path: Path) -> None:
    out, (first, second) = runs
    with runs_in_float64():
        alone = learn(tmp_path / "alone")
    for of_two, other in zip(first[:2], second[:2], strict=True):  # in one go, and in pieces
        assert of_two["totals"] == pytest.approx(alone["totals"], rel=1e-6)
        assert other["totals"] == {}, "the first process alone tells the listener"
        assert_same_weights(of_two, alone)
        assert of_two["weights"] == other["weights"]
    assert json.loads((out / "plain" / "run.json").read_text())["status"] == "FINISHED"


def test_a_run_in_shards_learns_evaluates_and_saves_what_another_does(runs: Runs) -> None:
    out, (first, second) = runs
    plain, divided = first[0], first[6]
    assert divided["totals"] == pytest.approx(plain["totals"], rel=1e-6)
    assert divided["weights"] == second[6]["weights"], "both are read from the checkpoint"
    assert_same_weights(divided, plain)
    assert json.loads((out / "divided" / "run.json").read_text())["extra"]["scores"]


def test_what_a_loss_learns_on_texts_of_like_length_is_the_same_in_all_processes(runs: Runs, tmp_path: Path) -> None:
    _, (first, second) = runs
    with runs_in_float64():
        alone = learn(tmp_path / "alone", SIGMOID, BUCKET)
    assert first[5]["weights"] == second[5]["weights"]
    (bias,), (expected,) = (run["weights"]["losses.contrastive.bias"] for run in (first[5], alone))
    assert bias != -10 and bias + 10 == pytest.approx(expected + 10, rel=1e-6)
    assert first[5]["totals"] == pytest.approx(alone["totals"], rel=1e-6)


def test_a_run_of_two_processes_goes_on_bit_for_bit(runs: Runs) -> None:
    _, (first, second) = runs
    whole, resumed = first[2:4]
    assert list(resumed["totals"]) == [4]
    assert resumed["totals"][4] == whole["totals"][4]
    assert resumed["weights"] == whole["weights"] == second[3]["weights"]


def test_a_queue_takes_the_rows_of_all_processes(runs: Runs) -> None:
    _, (first, second) = runs
    assert first[4]["weights"] == second[4]["weights"]
    assert first[4]["weights"]["components.memory.pointer"] == [12], "two steps of six records"
    assert first[4]["weights"]["teachers.momentum._started"] == [True]


@pytest.mark.slow
def test_torchrun_trains_a_blueprint(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["compose_vlp", "train", "tiny/coca", *SMALL, *LENGTH[:-1], "--no-track", "--device", "cpu"]
    command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained:") == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "FINISHED"
