"""Training a blueprint through its stages: a model, its state where a run goes on, one stage after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from compose_vlp.compiler.model import Model, build, fingerprint
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.device import choose_device
from compose_vlp.runtime.processes import Processes, join_processes
from compose_vlp.runtime.sources import ready_tokenizers
from compose_vlp.runtime.state import checkpoint, generators
from compose_vlp.runtime.state.fitting import fit
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.listener import Listener, Silent
from compose_vlp.runtime.training.saving import Progress, blueprint_of, differences, own, save
from compose_vlp.runtime.training.stage_evaluation import Measure
from compose_vlp.runtime.training.stage_run import StageRun
from compose_vlp.runtime.training.stopping import Stopping
from compose_vlp.tracking import NullTracker, Tracker


@dataclass(frozen=True)
class TrainOptions:
    """What may be said of a run beside its blueprint; of these only `seed` and `device` change what is learnt.

    `workers` are the processes that read data ahead: None is a few where pictures are decoded, none elsewhere.
    `changed_data` lets a resumed run go on with other data than it was trained on so far.
    """

    seed: int = 0
    device: str | None = None
    workers: int | None = None
    log_every: int = 10
    checkpoint_every: int = 500
    keep: int = 2
    without: tuple[str, ...] = ()
    changed_data: bool = False


@dataclass
class Trainer:
    """Trains in a run folder; `initialise(model)` brings in pretrained weights where a run begins.

    `measure` is what evaluates where a stage asks for it; `sources` are those of stages that somebody has opened
    already; `begin` is called once all is ready for the first step; `stopping` hears signals. Of several processes all
    train, and the first one alone has a tracker and a listener, and writes.
    """

    blueprint: CheckedBlueprint
    folder: RunFolder
    measure: Measure
    options: TrainOptions = TrainOptions()
    tracker: Tracker = field(default_factory=NullTracker)
    listener: Listener = field(default_factory=Silent)
    initialise: Callable[[Model], None] = lambda _: None
    sources: Mapping[str, Mapping[str, Source]] = field(default_factory=dict)
    begin: Callable[[], None] = lambda: None
    stopping: Stopping = field(default_factory=Stopping)

    @cached_property
    def processes(self) -> Processes:
        """The processes of this run, met when they are first asked for."""
        return join_processes(choose_device(self.options.device))

    def run(self, *, resume: bool = False) -> Model:
        """All stages, or what is left of them; gives the trained model, in eval mode.

        Without stages, the model is saved with the weights that it starts with, to be measured.

        Raises:
            UserError: data, tokenizers or a checkpoint that do not fit; a loss that is not finite.
            Stopped: a signal, after the running step is done and saved.
        """
        stages = list(self.blueprint.stages)
        if not stages:
            return self._untrained().eval()
        saved = self._saved() if resume else None
        begin = Progress(**saved["progress"]) if saved else Progress(0, 0, 0, stages[0])
        model = self._model(begin.trained, saved)
        before, trained = begin.before, begin.trained
        for number in range(begin.stage, len(stages)):
            here = saved if number == begin.stage else None
            noise = own(here["generators"], self.processes) if here else generators.capture()
            model = self._fitted(model, trained, stages[number])
            stage = StageRun(self, number, before, model)
            if here:
                stage.restore(here)
            if number == begin.stage:
                self.begin()
            stage.run(noise)
            before, trained = before + stage.steps, stages[number]
        return model.eval()

    def _model(self, stage: str, saved: dict[str, Any] | None) -> Model:
        """The model as it was saved, or a fresh one; every process has the same, and noise of its own from here on."""
        noise = (self.options.seed << 16) + self.processes.rank
        generators.seed_libraries(noise)
        model = build(self.blueprint.of_stage(stage), self.processes.device, self.options.seed)
        if saved is None:
            self.initialise(model)
            self.processes.share_weights(model.state_dict().values())
            if not self.processes.main:
                torch.manual_seed(noise)
        else:
            model.load_state_dict(saved["model"])
        return model

    def _untrained(self) -> Model:
        """The model with the weights of `start`, saved with its vocabularies."""
        stored = self.folder.path / "tokenizers"
        model = self._model("", None)
        self.begin()
        model.start_teachers(list(model.worlds))
        self.processes.by_main(lambda: len(ready_tokenizers(self.blueprint, stored, {})))
        save(self, model, Progress(0, 0, 0, ""), None, {})
        self.listener.note("there are no stages: the weights are those that it starts with")
        return model

    def _fitted(self, model: Model, before: str, after: str) -> Model:
        """The same weights as the next stage wants them: tables of positions for other sizes."""
        fitted, notes = fit(model, self.blueprint.of_stage(before), self.blueprint.of_stage(after))
        for note in notes:
            self.listener.note(f"stage {after}: {note}")
        return fitted

    def _saved(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read."""
        for path in checkpoint.newest_first(self.folder.checkpoints):
            try:
                checkpoint.verify(path)
            except UserError as damage:
                self.listener.note(f"passing over checkpoint {path.name}: {damage}")
                continue
            self.listener.note(f"resuming from {path.name}")
            wanted = fingerprint(blueprint_of(path, self.blueprint))
            saved = checkpoint.load(path, blueprint=wanted, device=str(self.processes.device))
            for difference in differences(saved, self.processes):
                self.listener.note(difference)
            return saved
        self.listener.note("nothing of this run had been saved: it starts at the beginning")
        return None
