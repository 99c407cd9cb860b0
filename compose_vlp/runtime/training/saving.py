"""What a checkpoint of a run holds: the model, how far it is, and what each process needs to go on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from compose_vlp.compiler.model import Model, fingerprint
from compose_vlp.data.loader import Loader
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.readable import several
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.state import checkpoint, generators
from compose_vlp.runtime.state.divided import is_divided
from compose_vlp.runtime.training.run_context import RunContext

T = TypeVar("T")

_MOMENT = re.compile(r"state\.(\d+)\..+")
"""What a checkpoint calls a tensor of an optimizer: by the number of its parameter."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: `step` steps of stage number `stage` are done, and `before` of the stages before it.

    `trained` is the stage whose model was saved, the last one that trained it.
    """

    stage: int
    step: int
    before: int
    trained: str


def save(
    run: RunContext,
    model: Model,
    progress: Progress,
    optimizer: torch.optim.Optimizer | None,
    loaders: Mapping[str, Loader],
) -> None:
    """Save a run. All processes call it: the first one writes, with what the others tell it.

    Of a model that is divided each process writes its own part, in the background: `run.saver` tells when it is done.

    Without an optimizer the stage is over, and the next one begins with moments and data of its own.

    Raises:
        UserError: the disk is full, or cannot be written.
    """
    processes = run.processes
    noise = processes.gather(generators.capture())
    places = processes.gather({name: loader.state_dict() for name, loader in loaders.items()})
    weights = model.state_dict()
    state: dict[str, Any] = {
        "model": weights,
        "progress": asdict(progress),
        "machine": {"threads": torch.get_num_threads(), "device": processes.device.type},
        "generators": noise,
    }
    if optimizer is not None:
        state |= {"optimizer": optimizer.state_dict(), "data": places}
    total = progress.before + progress.step

    blueprint = fingerprint(run.blueprint.of_stage(progress.trained))
    folder = checkpoint.step_folder(run.folder.checkpoints, total)

    def prune() -> None:
        checkpoint.prune(run.folder.checkpoints, run.options.keep)

    def write() -> None:
        run.tracker.flush()
        checkpoint.save(folder, state, step=total, blueprint=blueprint)
        prune()

    if is_divided(weights):
        processes.by_main(run.tracker.flush)
        run.saver.start(folder, state, step=total, blueprint=blueprint, processes=processes, saved=prune)
    else:
        processes.by_main(write)


def load_moments(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Fill an optimizer with what a checkpoint has of it; of moments that are divided, each process reads its own.

    Raises:
        UserError: the checkpoint is damaged.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def like(name: str, shape: torch.Size) -> Tensor | None:
        match = _MOMENT.fullmatch(name)
        parameter = parameters[int(match[1])] if match else None
        return parameter if isinstance(parameter, DTensor) and parameter.shape == shape else None

    optimizer.load_state_dict(checkpoint.load(path, only=("optimizer",), like=like)["optimizer"])


def blueprint_of(path: Path, blueprint: CheckedBlueprint) -> CheckedBlueprint:
    """Give the blueprint of the model in a checkpoint: with what the stage that trained it sets."""
    progress = checkpoint.load(path, only=("progress",))["progress"]
    return blueprint.of_stage(progress["trained"])


def own(saved: Sequence[T], processes: Processes) -> T:
    """This process's part of what was saved for each; the first's, where there were fewer."""
    return saved[processes.rank] if processes.rank < len(saved) else saved[0]


def differences(saved: Mapping[str, Any], processes: Processes) -> list[str]:
    """Why a run that goes on from a checkpoint will not come out bit for bit as without the stop."""
    machine, world = saved["machine"], len(saved["generators"])
    now = (
        (several(machine["threads"], "thread"), several(torch.get_num_threads(), "thread")),
        (f"{world} processes", f"{processes.world} processes"),
        (f"the device {machine['device']}", f"the device {processes.device.type}"),
    )
    return [
        f"this run had {before} and has {after} now: sums are rounded otherwise, so that it will not come out bit for "
        "bit as without the stop"
        for before, after in now
        if before != after
    ]
