"""Checkpoints of divided models: written in pieces while training goes on, read whole or in other pieces."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from compose_vlp.errors import UserError
from compose_vlp.runtime.processes import ALONE, Processes
from compose_vlp.runtime.state import checkpoint, divided
from compose_vlp.runtime.state.divided import BackgroundSaver, refuse_unseen
from compose_vlp.runtime.state.manifest import read_manifest
from compose_vlp.runtime.training.saving import load_moments
from tests.support import assert_near, spawn

CPU = torch.device("cpu")


class Small(nn.Module):
    """Odd sizes, a tied weight, a queue, a parameter that nothing reaches and one smaller than the processes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(7, 5), nn.Linear(5, 7)
        self.tied = self.first.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.unreached = nn.Parameter(torch.ones(3))
        self.register_buffer("queue", torch.arange(6).reshape(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x))) * self.scale


def made(world: int, replicas: int = 1) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Small()
    if world > 1:
        shape = (replicas, world // replicas) if replicas > 1 else (world,)
        fully_shard(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=("replicas", "shards")[-len(shape) :]))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """All processes see the same rows, so that the numbers of processes agree but for rounding."""
    for step in range(first, last):
        rows = torch.randn(4, 7, generator=torch.Generator().manual_seed(step))
        (model(rows) - rows).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    noise = [{"python": (3, (1, 2), None)}, {"python": (3, (4, 5), None)}]
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generators": noise,
        "progress": {"step": 3},
    }


def whole(model: nn.Module) -> dict[str, Any]:
    """Its tensors as arrays, which processes can send."""
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().numpy().copy()
        for name, value in model.state_dict().items()
    }


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    plain = checkpoint.load(path, only=("model",))["model"]
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(checkpoint.cut_like(plain[name], value) if isinstance(value, DTensor) else plain[name])
    load_moments(path, optimizer)


def go_on(world: int, path: Path) -> dict[str, Any]:
    model, optimizer = made(world)
    load(path, model, optimizer)
    train(model, optimizer, 3, 6)
    return whole(model)


def save_on_four(rank: int, folder: Path) -> dict[str, Any]:
    processes, saver = Processes(rank, 4, CPU), BackgroundSaver()
    reports: dict[str, Any] = {}
    for name, replicas in (("fsdp", 1), ("hybrid", 2)):
        model, optimizer = made(4, replicas)
        train(model, optimizer, 0, 3)
        path, before = folder / name / "step-00000003", whole(model)
        saver.start(path, state_of(model, optimizer), step=3, blueprint={"a": 1}, processes=processes)
        train(model, optimizer, 3, 6)  # meanwhile
        saver.wait()
        reports[name] = before, whole(model)
    dist.barrier()
    reports["again"] = go_on(4, folder / "fsdp/step-00000003")
    reports["from whole"] = go_on(4, folder / "alone/step-00000003")
    reports["unseen"] = _unseen(folder / "fsdp" if rank != 2 else folder / "nowhere", processes)
    reports["full disk"] = _on_a_full_disk(rank, folder, saver, processes)
    saver.close()
    return reports


def _words(error: UserError) -> str:
    return "; ".join(text for problem in error.problems for text in (problem.message, *problem.hints))


def _unseen(folder: Path, processes: Processes) -> str:
    with pytest.raises(UserError) as caught:
        refuse_unseen(folder, processes)
    return _words(caught.value)


def _on_a_full_disk(rank: int, folder: Path, saver: BackgroundSaver, processes: Processes) -> str:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    model, optimizer = made(4)
    if rank == 1:
        setattr(divided, "fsync_file", full)  # noqa: B010 - this process is at its end
    saver.start(folder / "fsdp/step-00000004", state_of(model, optimizer), step=4, blueprint=None, processes=processes)
    with pytest.raises(UserError) as caught:
        saver.wait()
    dist.barrier()
    return _words(caught.value)


def go_on_with_two(rank: int, path: Path) -> dict[str, Any]:
    return go_on(2, path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What four processes saved and went on to; beside it what one saved."""
    folder = tmp_path_factory.mktemp("divided")
    model, optimizer = made(1)
    train(model, optimizer, 0, 3)
    checkpoint.save(folder / "alone/step-00000003", state_of(model, optimizer), step=3)
    return folder, spawn(save_on_four, folder, world=4)


def alike(left: dict[str, Any], right: dict[str, Any], within: float = 0.0) -> bool:
    assert left.keys() == right.keys()
    return all(np.allclose(left[name], right[name], 0, within) for name in left)


@pytest.mark.parametrize("form", ["fsdp", "hybrid"])
def test_a_divided_checkpoint_is_read_whole_by_one_process(form: str, run: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, reports = run
    state = checkpoint.load(folder / form / "step-00000003", blueprint={"a": 1})
    assert alike(state["model"], reports[0][form][0])
    assert state["progress"] == {"step": 3} and state["generators"][1] == {"python": (3, (4, 5), None)}
    assert state["model"]["tied"] is state["model"]["first.weight"], "stored once"
    moments = state["optimizer"]["state"]
    assert {name: value.shape for name, value in moments[0].items()} == {
        "step": torch.Size([]), "exp_avg": torch.Size([5, 7]), "exp_avg_sq": torch.Size([5, 7])
    }  # fmt: skip
    model, optimizer = made(1)
    train(model, optimizer, 0, 3)
    for number, expected in optimizer.state_dict()["state"].items():
        for name, value in expected.items():
            assert_near(moments[number][name], value, what=name)


def test_training_goes_on_bit_for_bit_on_as_many_processes_and_to_rounding_on_others(
    run: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, reports = run
    path = folder / "fsdp/step-00000003"
    unstopped = reports[0]["fsdp"][1]
    assert alike(reports[0]["again"], unstopped) and alike(reports[3]["again"], unstopped)
    assert alike(go_on(1, path), unstopped, 1e-6)
    assert alike(go_on(1, folder / "hybrid/step-00000003"), unstopped, 1e-6)
    assert alike(reports[0]["from whole"], unstopped, 1e-6), "what one process saved, on four"
    assert alike(spawn(go_on_with_two, path)[1], unstopped, 1e-6)


def test_it_is_whole_or_absent(run: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    folder, reports = run
    assert [file.name for file in sorted((folder / "fsdp").iterdir())] == ["step-00000003"], "nothing is left aside"
    for report in reports:
        assert "No space left on device; the checkpoint before it is whole: " in report["full disk"]
    path = shutil.copytree(folder / "fsdp/step-00000003", tmp_path / "step-00000003")
    manifest = read_manifest(path)
    assert manifest.format == 2 and len([name for name in manifest.files if name.startswith("model/")]) == 4
    assert not list(path.rglob("*.metadata")) and not list(path.rglob("*.distcp")), "no pickles"
    checkpoint.verify(path)
    piece = next(path.glob("optimizer/shard-00002-*"))
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="is damaged: its SHA-256"):
        checkpoint.verify(path)
    assert checkpoint.load(path, only=("model",))["model"].keys() == reports[0]["fsdp"][0].keys(), "its own files are"
    piece.unlink()
    assert checkpoint.latest(tmp_path) is None


def test_a_machine_that_lacks_the_folder_is_named_by_all(run: tuple[Path, list[dict[str, Any]]]) -> None:
    _, reports = run
    assert all("does not see" in report["unseen"] and "--out" in report["unseen"] for report in reports)
    refuse_unseen(Path.cwd(), ALONE)
