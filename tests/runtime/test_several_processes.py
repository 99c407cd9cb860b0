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
from tests.support import assert_near, spawn

Load = Callable[..., Blueprint]
LENGTH = ("stages.pretrain.length=5 steps", *STEPS[1:], "optimizer.eps=1e-4")
NOISE = "components.multimodal.dropout=0.1"
SIGMOID = "losses.contrastive={use: sigmoid, scores: [i2t, t2i]}"


def blueprint(*overrides: str) -> Blueprint:
    return Blueprint.load("tiny/coca", overrides=[*SMALL, *LENGTH, *overrides])


def learn(out: Path, stop_after: int | None, resume: bool, *overrides: str) -> dict[str, Any]:
    watch = Watch(stop_after)
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=2)
    run = blueprint(*overrides).train(out=out, options=options, track=False, listener=watch, resume=resume)
    weights = {name: tensor.tolist() for name, tensor in run.asker.model.state_dict().items()}
    return {"totals": watch.totals, "weights": weights, "folder": str(run.folder.path)}


def in_each(rank: int, out: Path) -> list[dict[str, Any]]:
    """Runs in one go, in pieces, with a loss that learns, with noise, and this last one again from step 4."""
    plain = learn(out / "plain", None, False)
    cut = learn(out / "cut", None, False, "stages.pretrain.accumulate=3")
    sigmoid = learn(out / "sigmoid", None, False, SIGMOID)
    whole = learn(out / "noisy", None, False, NOISE)
    torch.distributed.barrier()
    if rank == 0:
        shutil.rmtree(out / "noisy" / "checkpoints" / "step-00000005")
    torch.distributed.barrier()
    torch.rand(3)
    resumed = learn(out / "noisy", None, True, NOISE)
    divided = learn(out / "divided", None, False, "distribute=fsdp", "stages.pretrain.evaluate=5 steps")
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[dict[str, Any]]]]:
    out = tmp_path_factory.mktemp("runs")
    return out, spawn(in_each, out, joined=False)


Runs = tuple[Path, list[list[dict[str, Any]]]]


def test_two_processes_learn_what_one_learns_from_the_whole_batch(runs: Runs, tmp_path: Path) -> None:
    out, (first, second) = runs
    alone = learn(tmp_path / "alone", None, False)
    for of_two, other in zip(first[:2], second[:2], strict=True):  # in one go, and in pieces
        assert of_two["totals"] == pytest.approx(alone["totals"], rel=1e-5)
        assert other["totals"] == {}, "the first process alone tells the listener"
        for name, wanted in alone["weights"].items():
            assert_near(torch.tensor(of_two["weights"][name]), torch.tensor(wanted), floor=1e-5, what=name)
        assert of_two["weights"] == other["weights"]
    assert json.loads((out / "plain" / "run.json").read_text())["status"] == "FINISHED"


def test_a_run_in_shards_learns_evaluates_and_saves_what_another_does(runs: Runs) -> None:
    out, (first, second) = runs
    plain, divided = first[0], first[6]
    assert divided["totals"] == pytest.approx(plain["totals"], rel=1e-5)
    assert divided["weights"] == second[6]["weights"], "both are read from the checkpoint"
    for name, expected in plain["weights"].items():
        assert_near(torch.tensor(divided["weights"][name]), torch.tensor(expected), floor=1e-5, what=name)
    assert json.loads((out / "divided" / "run.json").read_text())["extra"]["scores"]


def test_what_a_loss_learns_is_the_same_in_all_processes(runs: Runs, tmp_path: Path) -> None:
    _, (first, second) = runs
    alone = learn(tmp_path / "alone", None, False, SIGMOID)
    assert first[5]["weights"] == second[5]["weights"]
    bias = first[5]["weights"]["losses.contrastive.bias"]
    assert bias != [-10] and bias == pytest.approx(alone["weights"]["losses.contrastive.bias"], abs=1e-5)
    assert first[5]["totals"] == pytest.approx(alone["totals"], rel=1e-5)


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
