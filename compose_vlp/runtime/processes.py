"""The processes that train one model together: what they agree on, add up and tell each other."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from compose_vlp.errors import UserError

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: one evaluates or saves while the others wait. A dead one is noticed by who
started it."""
TO_SAY = timedelta(seconds=2)
"""How long one process needs to say what ended it."""


@dataclass(frozen=True)
class Processes:
    """This process, number `rank` of `world`; `device` is where what it sends lies."""

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Is this the one that writes files and speaks to the user?"""
        return self.rank == 0

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes, in float64."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        totals: list[float] = sums.tolist()
        return totals

    def highest(self, number: int) -> int:
        """Find the largest of the processes' numbers."""
        if self.world == 1:
            return number
        largest = torch.tensor(number, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def share_weights(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def gather(self, own: T) -> list[T]:
        """Collect what every process has, in the order of their ranks; picklable things."""
        if self.world == 1:
            return [own]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, own)
        return gathered

    def by_main(self, action: Callable[[], T]) -> T:
        """Give all processes what the first one's `action` gives; the others wait for it and do nothing themselves.

        Raises:
            UserError: the action's own, in every process.
        """
        if self.world == 1:
            return action()
        outcome: list[Any] = [None, None]
        if self.main:
            try:
                outcome = [action(), None]
            except UserError as error:
                outcome = [None, _portable(error)]
            except BaseException:
                dist.broadcast_object_list([None, UserError("the first process failed")], src=0)
                raise
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result


ALONE = Processes(0, 1, torch.device("cpu"))
"""One process."""


def join_processes(device: torch.device) -> Processes:
    """Meet the processes that `torchrun` started with this one; alone where nobody did."""
    from accelerate import PartialState

    _meet_again(device)
    state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
    own = state.device if device.type != "cpu" and state.num_processes > 1 else device
    return Processes(state.process_index, state.num_processes, own)


def _meet_again(device: torch.device) -> None:
    """Meet after `torchrun` has started all processes again: not at the addresses that those before left in its store.

    torch 2.10 uses one store for all restarts, and no prefix for each.
    """
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = agent_store(PATIENCE) if restart != "0" and not dist.is_initialized() else None
    if store is not None:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore(f"restart-{restart}", store),  # type: ignore[attr-defined]
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            timeout=PATIENCE,
        )


def is_first_to_say(words: str) -> bool:
    """Tell whether no other process of this run has said the same: what all of them meet, one of them says.

    Asked before processes have met, too, over the store that `torchrun` keeps; without one, every process speaks. One
    that is not the first waits a moment, since `torchrun` ends all others when one ends.
    """
    store = agent_store()
    if store is None:
        return True
    run = os.environ.get("TORCHELASTIC_RUN_ID", ""), os.environ.get("TORCHELASTIC_RESTART_COUNT", "")
    key = hashlib.sha256(repr((run, words)).encode()).hexdigest()
    try:
        first: bool = store.add(f"said/{key}", 1) == 1
    except RuntimeError:  # it is gone
        return True
    if not first:
        time.sleep(TO_SAY.total_seconds())
    return first


def agent_store(timeout: timedelta | None = None) -> Any | None:
    """Open the store that `torchrun` keeps for its processes, and over their restarts; None where there is none."""
    return open_store(timeout or TO_SAY) if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else None


def open_store(timeout: timedelta) -> Any | None:
    """Open the store by which the processes of a run meet, whoever keeps it; None where variables name none."""
    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(*place, is_master=False, wait_for_workers=False, timeout=timeout)  # type: ignore[attr-defined]
    except (KeyError, ValueError, RuntimeError):  # what `torchrun` left there is of no use, or gone
        return None


def leave_processes() -> bool:
    """Part from the others in good order; says whether this process is the one that speaks to the user."""
    if not dist.is_initialized():
        return True
    main = dist.get_rank() == 0
    dist.destroy_process_group()
    return main


def _portable(error: UserError) -> UserError:
    """Copy mistakes in a form that every process can read again."""
    plain = UserError(str(error))
    plain.problems = error.problems
    return plain
