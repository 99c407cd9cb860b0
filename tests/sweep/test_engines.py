"""Where runs are trained: Ray, Slurm through submitit, and what is told where these are not there."""

import builtins
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.errors import UserError
from compose_vlp.sweep import engines
from compose_vlp.sweep.engines import Ray, Resources, Slurm, engine, read_options

PATIENCE_S = 120.0


def ended(handle: engines.Handle) -> str:
    until = time.monotonic() + PATIENCE_S
    while (reason := handle.poll()) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    return reason


def noted(folder: Path) -> str:
    """Stands for `attempt`: leaves what it was given; a folder called `dies` kills its worker at the first try."""
    (folder / "seen").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    tries = folder / "tries"
    tries.write_text(str(1 + int(tries.read_text() if tries.exists() else 0)))
    if folder.name == "dies" and tries.read_text() == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return "it failed" if folder.name == "fails" else ""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of this machine that believes in two GPUs."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_gives_shares_of_gpus_and_restarts_workers_that_died(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "attempt", noted)
    folders = [tmp_path / name for name in ("one", "dies", "fails")]
    for folder in folders:
        folder.mkdir()
    shares = Ray("ray", None, Resources(cpus=0.5, gpus=0.5))
    handles = [shares.start(folder) for folder in folders]
    assert [ended(handle) for handle in handles] == ["", "", "it failed"]
    assert (tmp_path / "dies" / "tries").read_text() == "2"
    assert all((folder / "seen").read_text() in ("0", "1") for folder in folders)
    both = Ray("ray", None, Resources(cpus=0.5, gpus=2))
    assert ended(both.start(tmp_path / "one")) == ""
    assert sorted((tmp_path / "one" / "seen").read_text().split(",")) == ["0", "1"]
    shares.close()
    assert ray.is_initialized(), "a Ray that was there before stays"


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_submitit_runs_jobs_and_tells_failures(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(engines, "attempt", noted)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    slurm = Slurm(tmp_path, None, Resources(), cluster)
    for name, reason in (("one", ""), ("fails", "it failed")):
        (tmp_path / name).mkdir()
        assert ended(slurm.start(tmp_path / name)) == reason
        assert (tmp_path / name / "tries").read_text() == "1"


def test_the_script_asks_slurm_for_what_a_run_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda _: 2))
    resources = Resources(cpus=4, gpus=2, options={"partition": "gpu", "minutes": "90", "constraint": "a100"})
    slurm = Slurm(tmp_path, None, resources)
    script = slurm.executor._executor._make_submission_file_text("run it", "some-id")
    for line in ("--partition=gpu", "--time=90", "--gpus-per-node=2", "--cpus-per-task=4", "--constraint=a100"):
        assert f"#SBATCH {line}" in script
    assert "#SBATCH --job-name=compose-vlp" in script


def test_what_is_not_installed_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("ray", "submitit"):
            raise ModuleNotFoundError(name)
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    for on, package in (("ray", "ray"), ("slurm", "submitit")):
        with pytest.raises(UserError, match=f"needs the package {package}") as caught:
            engine(on, None, Resources(), tmp_path)
        assert caught.value.problems[0].hints == (f"pip install 'compose-vlp[{on}]'",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: engine("lokal", None, Resources(), path), "is no place that runs are trained at"),
        (lambda path: engine("slurm://there", None, Resources(), path), "is no place that runs are trained at"),
        (lambda path: engine("local", None, Resources(gpus=1), path), "are for `--on ray` and `--on slurm`"),
        (lambda path: engine("ray", None, Resources(options={"a": "b"}), path), "`--option` is for `--on slurm`"),
        (lambda path: engine("slurm", None, Resources(gpus=0.5), path), "Slurm gives whole GPUs"),
        (lambda _: read_options(["partition"]), "is not NAME=VALUE"),
    ],
)
def test_what_an_engine_does_not_take_is_told(call: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match=message):
        call(tmp_path)


def test_slurm_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="Slurm: Could not detect"):
        engine("slurm", None, Resources(), tmp_path)


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_ended_leaves_no_open_pipe(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep keeps its runs: of a thousand open pipes it would die."""
    start = engines.subprocess.Popen
    monkeypatch.setattr(engines.subprocess, "Popen", lambda _, **more: start(["/bin/sh", "-c", f"exit {code}"], **more))
    handle = engines._LocalRun(tmp_path)
    assert ended(handle) == ("" if code == 0 else "its process ended with exit code 3")
    assert handle.process.stderr.closed
