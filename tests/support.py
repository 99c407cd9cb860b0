"""What tests of several parts share."""

from __future__ import annotations

import gc
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import torch
import torch.multiprocessing as processes
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compose_vlp.data.transforms import ImageTransform

T = TypeVar("T")

PATIENCE_S = 240.0
"""How long processes may take, on a busy machine too."""

IMPORTED_ONCE = [
    "accelerate",
    "pytest",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "compose_vlp.api",
    "compose_vlp.runtime.training.trainer",
    "compose_vlp.components",
]
"""What processes find imported: they are forked from one that did no more than that."""


def assert_near(
    actual: Tensor, expected: Tensor, within: float | None = None, floor: float = 0.0, what: str = ""
) -> None:
    """Two ways of computing gave the same, relative to the norm of `wanted`, so on every machine's kernels.

    One element may be wrong by any factor of itself where others are larger: kernels add up in their own orders.

    Args:
        within: of the norm; by default what float64 leaves of rounding, or float32 where the tensors are of it.
            Whole numbers are equal.
        floor: root mean square of a difference that counts as none, where `wanted` may be about zero itself.
    """
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, what
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), what or "numbers that count differ"
        return
    within = within or {torch.float64: 1e-10, torch.float32: 1e-5}[expected.dtype]
    difference, scale = (float(tensor.detach().double().norm()) for tensor in (actual - expected, expected))
    limit = within * scale + floor * expected.numel() ** 0.5
    assert difference <= limit, f"{what or 'tensors'} differ by {difference:.3g}, of {scale:.3g}"


def in_float64(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with pictures in float64, where two ways of computing differ by far less than what they compute."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, batch)


def silence(model: nn.Module) -> None:
    """No noise, which processes and devices draw each for itself."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "drop_path"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


@contextmanager
def runs_in_float64() -> Iterator[None]:
    """Runs that begin in here have weights and pictures in float64: two ways of training then learn the same."""
    before, normalise = torch.get_default_dtype(), ImageTransform.normalise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageTransform, "normalise", lambda self, pixels: normalise(self, pixels).double())
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def forked_context() -> Any:
    """Give a context whose processes are forked from one that has imported what they need, and so start at once."""
    context = processes.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    return context


def spawn(
    function: Callable[..., T], *args: Any, world: int = 2, joined: bool = True, patience_s: float = PATIENCE_S
) -> list[T]:
    """`function(rank, *args)` in `world` processes that talk over gloo; what they gave, in the order of their ranks.

    Each is new, has one thread and torchrun's variables in its environment. Where `joined` is false, the process group
    is left to the function. Function, arguments and results are pickled, so the function stands at the top of a module.

    Raises:
        AssertionError: with the traceback of the process that failed first.
    """
    context = forked_context()
    results = context.Queue()
    port = _free_port()
    started = [
        context.Process(target=_work, args=(results, rank, world, port, joined, function, args), daemon=True)
        for rank in range(world)
    ]
    for process in started:
        process.start()
    actual: dict[int, T] = {}
    try:
        while len(actual) < world:
            rank, result, wrong = results.get(timeout=patience_s)
            assert wrong is None, f"process {rank} failed:\n{wrong}"
            actual[rank] = result
        for process in started:
            process.join(patience_s)
    finally:
        for process in started:
            process.kill()
    return [actual[rank] for rank in range(world)]


def average_gradients(parameters: Iterable[nn.Parameter], world: int) -> None:
    """The mean of gradients over the processes, by the plainest way there is."""
    for parameter in parameters:
        if world > 1 and parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world


def _work(results: Any, rank: int, world: int, port: int, joined: bool, function: Any, args: Any) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1",
    )  # fmt: skip
    import torch.distributed as dist

    gc.freeze()  # what was imported is shared with the others, and looking through it would copy it
    gc.set_threshold(50_000)
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


ASKING = (
    "from typing import Annotated\n"
    "from torch import nn\n"
    "from compose_vlp.registry import Settings, component\n"
    "from compose_vlp.values import Embedding\n\n\n"
    "@component('asking', rows='independent', state='none', draws='none')\n"
    "class Asking(nn.Module):\n"
    '    """Asks a tensor what it holds."""\n\n'
    "    class Config(Settings):\n"
    "        pass\n\n"
    "    def __init__(self, config: Config) -> None:\n"
    "        super().__init__()\n\n"
    "    def forward(self, x: Annotated[Embedding, 'rows width']) -> Annotated[Embedding, 'rows width']:\n"
    "        return x if x.features.sum().item() else x\n"
)
"""A plugin whose component asks a tensor for its numbers, which no shapes can tell."""


_PACED = """
import gc, os, sys, time
from compose_vlp.ending import end_with

def program():
    from compose_vlp.cli.run import run
    from compose_vlp.runtime.training.loop import StageLoop

    steps = StageLoop.run
    def slowly(self, *args):
        for report in steps(self, *args):
            os.write(1, f"step {report.step}\\n".encode())
            time.sleep(PAUSE)
            yield report
    StageLoop.run = slowly
    return run(sys.argv[1:])

gc.set_threshold(10_000)
end_with(program)  # both as the command does, before it imports
"""


def paced_training(pause_s: float) -> str:
    """Write the program of a command that says each step of a training, and waits for so long behind it."""
    return f"PAUSE = {pause_s}\n{_PACED}"
