"""What befalls one of two processes is told to both: to end, after a step that is saved, or a folder that it lacks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import Stopped, UserError
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.training.loop import StageLoop, StepReport
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.conftest import SMALL
from tests.runtime.test_training import STEPS, Watch
from tests.support import spawn

ENGINES = ("ddp", "fsdp")
NOISE = "components.multimodal.dropout=0.1"
TOLD: dict[int, int] = {}
"""After which step each of the processes is told to end."""
steps = StageLoop.run


def interrupted(self: StageLoop, first: int, last: int) -> Iterator[StepReport]:
    for report in steps(self, first, last):
        if report.step == TOLD.get(int(os.environ["RANK"])):
            os.kill(os.getpid(), signal.SIGTERM)
        yield report


def learn(out: Path, engine: str, *, resume: bool = False) -> dict[str, Any]:
    watch, code = Watch(), 0
    options = TrainOptions(seed=1, device="cpu", distribute=engine)  # type: ignore[arg-type]
    blueprint = Blueprint.load("tiny/coca", overrides=[*SMALL, *STEPS, NOISE])
    try:
        blueprint.train(out=out, options=options, track=False, listener=watch, resume=resume)
    except Stopped as stopped:
        code = stopped.code
    return {"totals": watch.totals, "code": code, "notes": watch.notes}


def lacks_the_folder(rank: int, out: Path) -> str:
    """The second process looks for the run's folder where there is none, as on a machine with a disk of its own."""
    plain = Processes.by_main

    def by_main(self: Processes, action: Callable[[], Any]) -> Any:
        there = plain(self, action)
        return there / "of another machine" if rank == 1 and isinstance(there, Path) else there

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "by_main", by_main)
        with pytest.raises(UserError) as refused:
            learn(out, "ddp")
    return str(refused.value)


def in_each(rank: int, out: Path) -> dict[str, Any]:
    """A run that nobody stops; one of which the second process alone is told to end, again and then of both, and on."""
    StageLoop.run = interrupted  # type: ignore[method-assign]
    runs: dict[str, Any] = {"refused": lacks_the_folder(rank, out / "unseen")}
    for engine in ENGINES:
        runs[engine] = [learn(out / f"{engine}-whole", engine)]
        for number, now in enumerate(({1: 2}, {0: 5, 1: 4}, {})):
            TOLD.update(now)
            runs[engine].append(learn(out / engine, engine, resume=number > 0))
            TOLD.clear()
    return runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("runs")
    return out, spawn(in_each, out, joined=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_end_after_one_step_saved_and_go_on_bit_for_bit(
    engine: str, runs: tuple[Path, list[dict[str, Any]]]
) -> None:
    out, processes = runs
    assert [[run["code"] for run in process[engine]] for process in processes] == [[0, 143, 143, 0]] * 2
    whole, *parts = processes[0][engine]
    assert [list(part["totals"]) for part in parts] == [[0, 1, 2], [3, 4], [5, 6, 7]]
    assert {step: total for part in parts for step, total in part["totals"].items()} == whole["totals"]
    assert "stopped after step 3 of 8 of stage pretrain, which is saved" in parts[0]["notes"][-1]
    last = [checkpoint.latest(out / name / "checkpoints") for name in (f"{engine}-whole", engine)]
    assert last[0] is not None and last[1] is not None
    ended, stopped = (checkpoint.load(path) for path in last if path is not None)
    assert ended["progress"] == stopped["progress"]
    for name, tensor in ended["model"].items():
        assert np.array_equal(tensor.numpy(), stopped["model"][name].numpy()), name


def test_a_process_that_does_not_see_the_runs_folder_is_told_by_all_and_the_folder_is_taken_away(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    out, processes = runs
    assert all(f"does not see {out / 'unseen'}" in process["refused"] for process in processes)
    assert not (out / "unseen").exists()
