"""What runs are executed by: processes of this machine, Ray, or Slurm through submitit. None of them is ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.sweep.folder import TrialFolder
from compose_vlp.sweep.work import STOPPED, attempt, die_with_parent

NAMES: Final = ("local", "ray", "slurm")


@dataclass(frozen=True)
class Resources:
    """What one run is given.

    Attributes:
        cpus: Cores; a few threads, where it is left out.
        gpus: GPUs, in parts where several runs share one; two and more train together under `torchrun`.
        options: What the engine takes beside: `partition`, `time` and others of Slurm's.
    """

    cpus: float | None = None
    gpus: float = 0
    options: Mapping[str, str] = field(default_factory=dict)


class Handle(Protocol):
    """A run that was started."""

    def poll(self) -> str | None:
        """None while it goes on; then why it failed, or nothing where it did not."""

    def stop(self) -> None:
        """Ask it to save and end."""


class Engine(Protocol):
    """Starts runs; `at_once` is how many it takes at a time, None where it queues them itself."""

    at_once: int | None

    def start(self, folder: Path) -> Handle: ...

    def close(self) -> None: ...


def engine(on: str, jobs: int | None, resources: Resources, folder: Path) -> Engine:
    """The engine that `--on` names.

    Raises:
        UserError: an unknown one, one whose package is not installed, or options that it does not take.
    """
    name, _, address = on.partition("://")
    if name not in NAMES or (address and name != "ray"):
        hints = did_you_mean(name, NAMES) or ("local, ray, ray://HOST:PORT or slurm",)
        raise UserError(f"`--on {on}` is no place that runs are trained at", hints=hints)
    if name == "local":
        if resources.gpus or resources.cpus or resources.options:
            raise UserError(
                "`--cpus`, `--gpus` and `--option` are for `--on ray` and `--on slurm`: who shares a machine is theirs",
                hints=("`--on ray` starts Ray on this machine",),
            )
        return Local(jobs or 1)
    if resources.options and name == "ray":
        raise UserError("`--option` is for `--on slurm`")
    return Ray(on, jobs, resources) if name == "ray" else Slurm(folder, jobs, resources)


# --- processes of this machine ----------------------------------------------------------------------------------


class Local:
    """A process a run; it ends in good order with this one, however this one ends."""

    def __init__(self, jobs: int) -> None:
        self.at_once: int | None = jobs

    def start(self, folder: Path) -> Handle:
        return _LocalRun(folder)

    def close(self) -> None: ...


class _LocalRun:
    def __init__(self, folder: Path) -> None:
        self.trial = TrialFolder(folder)
        self.failures = self.trial.failures
        self.process = subprocess.Popen(
            [sys.executable, "-m", "compose_vlp.sweep.work", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which asks its runs to stop
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock is taken
        )

    def poll(self) -> str | None:
        code = self.process.poll()
        if code is None:
            return None
        _, output = self.process.communicate()  # closes the pipe: a sweep may have thousands of runs
        if code == 0:
            return ""
        if code == 128 + signal.SIGTERM:
            return STOPPED
        if self.trial.failures > self.failures:
            return self.trial.reason
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = output.decode(errors="replace").strip().splitlines()
        return f"its process {how}" + (f": {lines[-1]}" if lines else "")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


# --- Ray --------------------------------------------------------------------------------------------------------


class Ray:
    """Tasks of a Ray cluster, or of one that is started here; a worker that dies is replaced as Ray does."""

    RESTARTS = 3
    """Workers that Ray starts anew for a run whose worker died."""

    def __init__(self, on: str, jobs: int | None, resources: Resources) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise _missing("ray", "ray") from None
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a run without GPUs keeps what is visible
        self.ray = ray
        self.at_once = jobs
        self.own = not ray.is_initialized()
        if self.own:
            _connect(ray, on)
        self.remote = ray.remote(
            num_cpus=1 if resources.cpus is None else resources.cpus,
            num_gpus=resources.gpus,
            max_retries=self.RESTARTS,
        )(attempt)

    def start(self, folder: Path) -> Handle:
        return _RayRun(self.ray, self.remote.remote(folder))

    def close(self) -> None:
        if self.own:
            self.ray.shutdown()


class _RayRun:
    def __init__(self, ray: Any, task: Any) -> None:
        self.ray = ray
        self.task = task

    def poll(self) -> str | None:
        done, _ = self.ray.wait([self.task], timeout=0)
        if not done:
            return None
        try:
            return str(self.ray.get(self.task))
        except self.ray.exceptions.TaskCancelledError:
            return STOPPED
        except self.ray.exceptions.RayError as error:
            return f"Ray: {str(error).strip().splitlines()[0]}"

    def stop(self) -> None:
        self.ray.cancel(self.task, force=False)


def _connect(ray: Any, on: str) -> None:
    address = on if "://" in on else None
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"Ray cannot be reached at {address or 'this machine'}: {first}") from None


# --- Slurm ------------------------------------------------------------------------------------------------------


class Slurm:
    """Jobs of Slurm, through submitit; `cluster` may be one of submitit's others."""

    def __init__(self, folder: Path, jobs: int | None, resources: Resources, cluster: str = "slurm") -> None:
        try:
            import submitit
        except ModuleNotFoundError:
            raise _missing("slurm", "submitit") from None
        self.at_once = jobs
        parameters = _slurm_parameters(resources, cluster)
        try:
            self.executor = submitit.AutoExecutor(folder=folder / "slurm" / "%j", cluster=cluster)
            self.executor.update_parameters(**parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"Slurm: {first}", hints=("run it where `sbatch` is, on a login node",)) from None

    def start(self, folder: Path) -> Handle:
        return _SlurmRun(self.executor.submit(attempt, folder))

    def close(self) -> None: ...


class _SlurmRun:
    def __init__(self, job: Any) -> None:
        self.job = job

    def poll(self) -> str | None:
        if not self.job.done():
            return None
        try:
            return str(self.job.result())
        except Exception as error:  # noqa: BLE001 - whatever the job or its loss raised is the reason
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            return f"Slurm job {self.job.job_id}: {lines[-1] if lines else type(error).__name__}"

    def stop(self) -> None:
        self.job.cancel(check=False)


def _slurm_parameters(resources: Resources, cluster: str) -> dict[str, Any]:
    """Submitit's names for what a run needs; options are Slurm's own."""
    if resources.gpus and resources.gpus != int(resources.gpus):
        raise UserError(f"Slurm gives whole GPUs, not {resources.gpus:g}", hints=("`--on ray` gives parts of one",))
    parameters: dict[str, Any] = {"name": "compose-vlp"}
    if resources.gpus:
        parameters["gpus_per_node"] = int(resources.gpus)
    if resources.cpus:
        parameters["cpus_per_task"] = int(resources.cpus)
    prefix = "slurm_" if cluster == "slurm" else f"{cluster}_"
    for key, value in resources.options.items():
        parameters["timeout_min" if key == "minutes" else f"{prefix}{key}"] = int(value) if value.isdigit() else value
    return parameters


def _missing(extra: str, package: str) -> UserError:
    return UserError(
        f"`--on {extra}` needs the package {package}, which is not installed",
        hints=(f"pip install 'compose-vlp[{extra}]'",),
    )


def read_options(options: Sequence[str]) -> dict[str, str]:
    """`partition=gpu` and the like.

    Raises:
        UserError: one without `=`.
    """
    options_by_name = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals or not value:
            raise UserError(f"`--option {option}` is not NAME=VALUE", hints=("--option partition=gpu",))
        options_by_name[key] = value
    return options_by_name
