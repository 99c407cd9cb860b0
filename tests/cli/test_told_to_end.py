"""`train` in a process of its own that is told to end, as schedulers and terminals do it: it ends saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.support import paced_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PACE = paced_training(0.1)
SHORT = ("data.pairs.size=16", "data.pairs.count=24", "stages.pretrain.batch=6", "stages.pretrain.length=30 steps")


def start(folder: Path, *words: str, program: tuple[str, ...] = ("-c", PACE)) -> subprocess.Popen[str]:
    command = [sys.executable, *program, "train", "--no-track", "--device", "cpu", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 (the suite may run under nohup)
    )


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip() == f"step {step}":
            return
    raise AssertionError("training ended early:\n" + "".join(lines))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_saves_and_readers_stay(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "tiny/coca", *SMALL, *SHORT, "--out", "run", "--workers", "2")
    wait_for_step(process, 4)
    os.killpg(process.pid, number)
    printed, _ = process.communicate()
    assert process.returncode == 128 + number, printed
    assert "fault" not in printed and "Traceback" not in printed
    assert "go on with `compose-vlp train --resume" in printed
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "KILLED"
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert f"stopped after step {int(saved.name.removeprefix('step-'))} of 30" in printed


def test_all_processes_of_a_run_save_together(tmp_path: Path) -> None:
    pace = tmp_path / "pace.py"
    pace.write_text(PACE)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(pace))
    process = start(tmp_path, "tiny/coca", *SMALL, *SHORT, "--out", "run", "--workers", "1", program=torchrun)
    wait_for_step(process, 4)
    os.killpg(process.pid, signal.SIGTERM)
    printed, _ = process.communicate()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "KILLED"
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert f"stopped after step {int(saved.name.removeprefix('step-'))} of 30" in printed
    state = json.loads((saved / "state.json").read_text())
    assert len(state["generators"]) == len(state["data"]) == 2


DIES = """
import gc, os, signal, sys
from compose_vlp.ending import end_with

def program():
    from compose_vlp.cli.run import run
    from compose_vlp.runtime.training.loop import StageLoop

    steps = StageLoop.run
    def until_killed(self, *args):
        for report in steps(self, *args):
            if report.step == 5 and (os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]) == ("0", "1"):
                os.kill(os.getpid(), signal.SIGKILL)
            yield report
    StageLoop.run = until_killed
    return run(sys.argv[1:])

gc.set_threshold(10_000)
end_with(program)  # both as the command does, before it imports
"""


def test_a_worker_that_is_killed_costs_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    words = ("stages.pretrain.length=8 steps", "--checkpoint-every", "2", "--workers", "0")
    process = start(tmp_path, "tiny/coca", *SMALL, *SHORT[:-1], *words, program=(*launch, str(tmp_path / "dies.py")))
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "resuming from step-00000004" in printed and "Traceback" not in printed
    (run,) = (tmp_path / "runs").iterdir()  # that has no name, and is found again
    assert json.loads((run / "run.json").read_text())["status"] == "FINISHED"
    assert (run / "checkpoints" / "step-00000008").is_dir()
