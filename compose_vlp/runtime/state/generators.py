"""The state of everything random in a process, in a form that a checkpoint takes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_libraries(number: int) -> None:
    """Seed Python's and numpy's generators, from which plugins and libraries draw; models draw from torch's."""
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 - libraries draw from it


def capture() -> dict[str, Any]:
    """Save the states of Python's, numpy's and torch's global generators (of every CUDA device, if CUDA is in use)."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),  # noqa: NPY002 - libraries draw from it
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: dict[str, Any]) -> None:
    """Go on drawing where `capture` was called.

    States of CUDA devices are restored as far as there are such devices: a run that goes on with fewer is another run,
    which its trainer has to say.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, cuda_state in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)
