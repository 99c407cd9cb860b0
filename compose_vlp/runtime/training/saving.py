"""What a checkpoint of a run holds: the model, how far it is, and what each process needs to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from compose_vlp.compiler.model import Model, fingerprint
from compose_vlp.data.loader import Loader
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.state import checkpoint, generators
from compose_vlp.runtime.training.run_context import RunContext

T = TypeVar("T")


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

    Without an optimizer the stage is over, and the next one begins with moments and data of its own.

    Raises:
        UserError: the disk is full, or cannot be written.
    """
    processes = run.processes
    noise = processes.gather(generators.capture())
    places = processes.gather({name: loader.state_dict() for name, loader in loaders.items()})
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "progress": asdict(progress),
        "machine": {"threads": torch.get_num_threads(), "device": processes.device.type},
        "generators": noise,
    }
    if optimizer is not None:
        state |= {"optimizer": optimizer.state_dict(), "data": places}
    total = progress.before + progress.step

    def write() -> None:
        run.tracker.flush()
        folder = checkpoint.step_folder(run.folder.checkpoints, total)
        blueprint = fingerprint(run.blueprint.of_stage(progress.trained))
        checkpoint.save(folder, state, step=total, blueprint=blueprint)
        checkpoint.prune(run.folder.checkpoints, run.options.keep)

    processes.by_main(write)


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
        (f"{machine['threads']} threads", f"{torch.get_num_threads()} threads"),
        (f"{world} processes", f"{processes.world} processes"),
        (f"the device {machine['device']}", f"the device {processes.device.type}"),
    )
    return [
        f"this run had {before} and has {after} now: sums are rounded otherwise, so that it will not come out bit for "
        "bit as without the stop"
        for before, after in now
        if before != after
    ]
