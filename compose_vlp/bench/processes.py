"""A stage's step in one process and in several, which bring their gradients together as `ddp` does, on the CPU."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from compose_vlp.allocator import keep_memory
from compose_vlp.api import Blueprint
from compose_vlp.bench.curve import PROCESSES, Curve
from compose_vlp.bench.steps import COMPILED, PLAIN, Prepared
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.readable import several
from compose_vlp.runtime.processes import PATIENCE, Processes

CPU: Final = torch.device("cpu")
TIMES: Final = "times.json"
FORKSERVER: Final = "forkserver"


@dataclass(frozen=True)
class Request:
    """What every process is to time: the blueprint as a command line names it, and how."""

    names: tuple[str, ...]
    overrides: tuple[str, ...]
    plugins: tuple[Path, ...] = ()
    stage: str | None = None
    batch: int | None = None
    rounds: int = 5
    threads: int = 1
    programs: tuple[str, ...] = (COMPILED, PLAIN)

    def load(self) -> CheckedBlueprint:
        """Read and check the blueprint."""
        return Blueprint.load(*self.names, overrides=self.overrides, plugins=self.plugins).check()

    def of(self, number: int, stage: str, rows: int) -> Request:
        """Ask for the same in so many processes of `rows` each: the stage's batch is that of all of them."""
        own = {f"stages.{stage}.batch": number * rows, f"stages.{stage}.accumulate": 1}
        others = [text for text in self.overrides if text.partition("=")[0].lstrip("+~") not in own]
        overrides = (*others, *(f"{path}={value}" for path, value in own.items()))
        return replace(self, overrides=overrides, stage=stage, batch=rows)


def bench_processes(request: Request, numbers: Sequence[int], tick: Callable[[str], None] = lambda _: None) -> Curve:
    """Time whole steps in each number of processes: as many rows in each, and as many threads.

    `tick` is told each number before its processes start.

    Raises:
        BlueprintError: before anything is timed: something does not go with the rows of so many processes.
        UserError: likewise: no such stage; so many processes do not fit into memory.
    """
    prepared = Prepared(request.load(), request.stage, request.batch)
    requests = {number: request.of(number, prepared.name, prepared.rows) for number in numbers}
    for number, own in requests.items():
        own.load()
        prepared.make_sure_it_fits(CPU, f"a step in {several(number, 'process')}", number)
    points = {}
    for number, own in requests.items():
        tick(f"{PROCESSES}={number}")
        points[str(number)] = prepared.measured(_together(own, number), CPU, request.threads, number)
    return Curve(PROCESSES, points)


def threads_of_each(numbers: Sequence[int]) -> int:
    """Divide this process's threads by the most processes, so that each has as many at every point of a curve."""
    return max(torch.get_num_threads() // max(numbers), 1)


def _together(request: Request, world: int) -> dict[str, list[float]]:
    """Start `world` processes, and read what the first one measured: it waits for the others at each step's end."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.get_context(FORKSERVER).set_forkserver_preload([__name__])  # imported once for all processes
        start_processes(_work, (world, folder, request), nprocs=world, start_method=FORKSERVER)
        times: dict[str, list[float]] = json.loads((Path(folder) / TIMES).read_text(encoding="utf-8"))
    return times


def _work(rank: int, world: int, folder: str, request: Request) -> None:
    os.dup2(2, 1)  # gloo greets on standard output, which is for results
    keep_memory()
    torch.set_num_threads(request.threads)
    if world > 1:
        meeting = (Path(folder) / "meeting").as_uri()
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=PATIENCE)
    prepared = Prepared(request.load(), request.stage, request.batch)
    times = prepared.times(request.rounds, Processes(rank, world, CPU), request.programs)
    if rank == 0:
        (Path(folder) / TIMES).write_text(json.dumps(times), encoding="utf-8")
    if world > 1:
        dist.destroy_process_group()
