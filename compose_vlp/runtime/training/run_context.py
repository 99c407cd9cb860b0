"""What every stage of a run shares: its blueprint, folder, processes, options, and who watches it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from compose_vlp.blueprint.sections import EngineName
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.device import choose_device
from compose_vlp.runtime.limits import HIGHEST_SEED, MOST_WORKERS
from compose_vlp.runtime.processes import Processes, join_processes
from compose_vlp.runtime.state.divided import BackgroundSaver
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.listener import Listener, Silent
from compose_vlp.runtime.training.stage_evaluation import Measure
from compose_vlp.runtime.training.stopping import Stopping
from compose_vlp.runtime.training.watch import Place
from compose_vlp.tracking import NullTracker, Tracker

BOUNDS: Final = {
    "seed": (0, HIGHEST_SEED),
    "workers": (0, MOST_WORKERS),
    "log_every": (1, sys.maxsize),
    "checkpoint_every": (1, sys.maxsize),
    "keep": (1, sys.maxsize),
}
"""The least and the most of the options that are numbers."""


@dataclass(frozen=True)
class TrainOptions:
    """What may be said of a run beside its blueprint; of these only `seed` and `device` change what is learnt.

    `workers` are the processes that read data ahead: None is a few where pictures are decoded, none elsewhere.
    `distribute` stands before what stages say of how processes share the work.
    `changed_data` lets a resumed run go on with other data than it was trained on so far.
    `patience` is for how many minutes several processes wait for one that hangs; 0 for ever.

    >>> TrainOptions(seed=3, device="cpu").checkpoint_every
    500
    """

    seed: int = 0
    device: str | None = None
    workers: int | None = None
    log_every: int = 10
    checkpoint_every: int = 500
    keep: int = 2
    without: tuple[str, ...] = ()
    changed_data: bool = False
    distribute: EngineName | None = None
    patience: float = 30.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run could begin with.

        Raises:
            UserError: it names the option.
        """
        for name, (least, most) in BOUNDS.items():
            given = getattr(self, name)
            if given is not None and not least <= given <= most:
                raise UserError(f"`{name}` cannot be {given}", hints=[f"from {least:,} to {most:,}"])


@dataclass
class RunContext:
    """A run as its stages see it.

    `measure` is what evaluates where a stage asks for it; `sources` are those of stages that somebody has opened
    already; `stopping` hears signals; `saver` writes checkpoints of divided models; `place` is where the run is, which
    other processes look after. Of several processes all train,
    and the first one alone has a tracker and a listener, and writes.
    """

    blueprint: CheckedBlueprint
    folder: RunFolder
    measure: Measure
    options: TrainOptions = TrainOptions()
    tracker: Tracker = field(default_factory=NullTracker)
    listener: Listener = field(default_factory=Silent)
    sources: Mapping[str, Mapping[str, Source]] = field(default_factory=dict)
    stopping: Stopping = field(default_factory=Stopping)
    saver: BackgroundSaver = field(default_factory=BackgroundSaver)
    place: Place = field(default_factory=Place)

    @cached_property
    def processes(self) -> Processes:
        """Meet the processes of this run, when they are first asked for."""
        return join_processes(choose_device(self.options.device))
