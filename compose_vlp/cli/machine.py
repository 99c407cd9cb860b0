"""Faults of the machine, and ends that another process has explained already."""

from __future__ import annotations

import errno
import os
import re
from typing import Final

from compose_vlp.errors import UserError

_WORKER: Final = re.compile(
    r"DataLoader worker \(pids?(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: (\w+(?: \w+)*)|exited unexpectedly)"
)
_NO_MEMORY: Final = re.compile(
    r"not enough memory|can't allocate memory|Cannot allocate memory|out of memory", re.IGNORECASE
)
_PEER: Final = re.compile(
    r"connection (?:closed|reset|refused|was closed)|broken pipe|remote process exited|socket timeout"
    r"|store.*(?:closed|timeout)|NCCL (?:error|communicator)|Timed out waiting.*recv|peer (?:closed|gone)",
    re.IGNORECASE,
)


def machine_fault(error: BaseException) -> UserError | None:
    """Say what the machine lacked: memory, shared memory or room on a disk; None where it lacked nothing."""
    for cause in _chain(error):
        worker = _WORKER.search(str(cause))
        if worker is not None:
            return _killed(worker[1], worker[2] or "")
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return UserError(f"there is no room left on the disk: {cause}")
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and _NO_MEMORY.search(str(cause))):
            return _too_little(cause)
    return None


def is_of_another_process(error: BaseException) -> bool:
    """Tell whether it is only that another process of the run has gone, which said why."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    kinds = {type(error).__name__ for error in _chain(error)}
    if not several or not kinds & {"RuntimeError", "DistBackendError", "DistNetworkError", "DistStoreError"}:
        return False
    return any(_PEER.search(str(cause)) for cause in _chain(error))


def _chain(error: BaseException) -> list[BaseException]:
    """List the exception, and those that it came of."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


def _killed(pids: str, signal: str) -> UserError:
    if signal.lower().startswith("bus error"):
        from compose_vlp.doctor import MORE_SHARED, shared_size

        return UserError(
            f"a process that reads data (pid {pids}) has no shared memory left in {shared_size()}", hints=[MORE_SHARED]
        )
    how = f"was killed (signal {signal})" if signal else "ended without a word"
    return UserError(
        f"a process that reads data (pid {pids}) {how}: mostly that is the system, when memory runs out",
        hints=[
            f"{_memory()}; `--workers 1` needs less than two or more, `--workers 0` least",
            "`dmesg | tail` tells whether the system killed it; `train --resume RUN` goes on from the last checkpoint",
        ],
    )


def _too_little(error: BaseException) -> UserError:
    device = type(error).__name__ == "OutOfMemoryError"
    message = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserError(
        f"{'the GPU' if device else 'the machine'} has too little memory: {message}",
        hints=[
            "a smaller `batch`, or `accumulate: N`, which computes a batch in N pieces with equal gradients",
            *([] if device else [f"{_memory()}; each process that reads data needs some, see `--workers`"]),
        ],
    )


def _memory() -> str:
    import psutil

    now = psutil.virtual_memory()
    return f"{(now.total - now.available) / 2**30:.1f} of {now.total / 2**30:.1f} GB are in use now"
