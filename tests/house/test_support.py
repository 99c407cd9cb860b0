"""What tests lean on: processes that talk to each other, and failures in them that are told."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from tests.support import assert_near, spawn


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


def test_near_is_relative_to_the_norm_of_all() -> None:
    expected = torch.tensor([1.0, 1e-9])
    assert_near(expected + torch.tensor([0.0, 1e-6]), expected)
    with pytest.raises(AssertionError, match=r"here differ by 0\.001, of 1"):
        assert_near(expected + torch.tensor([1e-3, 0.0]), expected, what="here")
    with pytest.raises(AssertionError):
        assert_near(expected.double() + 1e-6, expected.double())
    assert_near(torch.full((4,), 1e-6), torch.zeros(4), floor=1e-6)
    for other in (expected[:1], expected.double()):
        with pytest.raises(AssertionError):
            assert_near(other, expected)
