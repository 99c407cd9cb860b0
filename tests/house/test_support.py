"""What tests lean on: processes that talk to each other, and failures in them that are told."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from tests.support import spawn


def add_ranks(rank: int, base: int) -> float:
    total = torch.tensor(float(base + rank))
    dist.all_reduce(total)
    return float(total)


def fail_in_one(rank: int) -> None:
    if rank == 1:
        raise ZeroDivisionError("only here")
    dist.barrier()


def test_processes_talk_to_each_other() -> None:
    assert spawn(add_ranks, 10) == [21.0, 21.0]


def test_the_traceback_of_a_process_that_fails_is_told() -> None:
    with pytest.raises(AssertionError, match=r"process 1 failed:[\s\S]*only here"):
        spawn(fail_in_one)
