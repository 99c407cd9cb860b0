"""What tests of several parts share."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import torch.multiprocessing as processes

T = TypeVar("T")

PATIENCE_S = 120.0
"""How long processes may take: on a busy machine the imports of two new ones need some of it."""


def spawn(function: Callable[..., T], *args: Any, world: int = 2, joined: bool = True) -> list[T]:
    """`function(rank, *args)` in `world` processes that talk over gloo; what they gave, in the order of their ranks.

    Each has one thread, and torchrun's variables in its environment. Where `joined` is false, the process group is
    left to the function. Function, arguments and results are pickled, so the function stands at the top of a module.

    Raises:
        AssertionError: with the traceback of the process that failed first.
    """
    context = processes.get_context("spawn")
    results = context.Queue()
    port = _free_port()
    started = [
        context.Process(target=_work, args=(results, rank, world, port, joined, function, args), daemon=True)
        for rank in range(world)
    ]
    for process in started:
        process.start()
    found: dict[int, T] = {}
    try:
        while len(found) < world:
            rank, result, wrong = results.get(timeout=PATIENCE_S)
            assert wrong is None, f"process {rank} failed:\n{wrong}"
            found[rank] = result
        for process in started:
            process.join(PATIENCE_S)
    finally:
        for process in started:
            process.kill()
    return [found[rank] for rank in range(world)]


def _work(results: Any, rank: int, world: int, port: int, joined: bool, function: Any, args: Any) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1",
    )  # fmt: skip
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        if joined:
            dist.init_process_group("gloo")
        results.put((rank, function(rank, *args), None))
        if dist.is_initialized():
            dist.barrier()  # nobody leaves while another still talks
            dist.destroy_process_group()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
