"""Training a blueprint through its stages: a model, its state where a run goes on, one stage after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from compose_vlp.compiler.model import Model, build, fingerprint
from compose_vlp.errors import UserError
from compose_vlp.runtime.sources import ready_tokenizers
from compose_vlp.runtime.stage import plan_stage
from compose_vlp.runtime.state import checkpoint, generators
from compose_vlp.runtime.state.fitting import fit
from compose_vlp.runtime.training.engines import CPU, divides, whole_model
from compose_vlp.runtime.training.hanging import Doing
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.log import LOG, Log
from compose_vlp.runtime.training.run_context import RunContext, TrainOptions
from compose_vlp.runtime.training.saving import Progress, blueprint_of, differences, own, save
from compose_vlp.runtime.training.stage_run import StageRun
from compose_vlp.runtime.training.watch import watched

__all__ = ["TrainOptions", "Trainer"]

log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """Trains a run through its stages.

    `initialise(model)` brings in pretrained weights where a run begins; `begin` is called once all is ready for the
    first step.
    """

    context: RunContext
    initialise: Callable[[Model], None] = lambda _: None
    begin: Callable[[], None] = lambda: None

    def run(self, *, resume: bool = False) -> Model:
        """All stages, or what is left of them; gives the trained model, in eval mode.

        Without stages, the model is saved with the weights that it starts with, to be measured.

        Raises:
            UserError: data, tokenizers or a checkpoint that do not fit; a loss that is not finite.
            Stopped: a signal, after the running step is done and saved.
        """
        stages = list(self.context.blueprint.stages)
        if not stages:
            return self._untrained().eval()
        context = self.context
        try:
            with watched(context.processes, context.place, 60 * context.options.patience, self._say):
                return self._trained(stages, resume)
        finally:
            context.saver.close()

    def _say(self, words: str) -> None:
        """Tell what another thread saw: the first process hangs, maybe, and then another one speaks."""
        if self.context.processes.main:
            self.context.listener.note(words)
        else:
            log.warning(words)
            Log(Silent(), self.context.folder.logs / LOG).write(words)

    def _trained(self, stages: list[str], resume: bool) -> Model:
        saved = self._saved() if resume else None
        begin = Progress(**saved["progress"]) if saved else Progress(0, 0, 0, stages[0])
        model = self._model(begin.trained, saved)
        before, trained = begin.before, begin.trained
        for number in range(begin.stage, len(stages)):
            here = saved if number == begin.stage else None
            noise = own(here["generators"], self.context.processes) if here else generators.capture()
            model = self._fitted(model, trained, stages[number]).to(self._home(stages[number]))
            self.context.place.at(Doing.MAKING_READY, before)
            stage = StageRun(self.context, number, before, model)
            if here:
                stage.restore(here)
            if number == begin.stage:
                self.begin()
            stage.run(noise)
            before, trained = before + stage.steps, stages[number]
            if number + 1 < len(stages):
                home, processes = self._home(stages[number + 1]), self.context.processes
                model = whole_model(model, stage.blueprint, home, processes, everywhere=True)
        return model.eval()

    def _model(self, stage: str, saved: dict[str, Any] | None) -> Model:
        """Make the model as saved, or a fresh one; every process has the same, and noise of its own from here on."""
        seed = self.context.options.seed
        noise = (seed << 16) + self.context.processes.rank
        generators.seed_libraries(noise)  # plugins may draw from them while they are made
        model = build(self.context.blueprint.of_stage(stage), self._home(stage), seed)
        if saved is None:
            self.initialise(model)
            self.context.processes.share_weights(model.state_dict().values())
            generators.seed_libraries(noise)
            torch.manual_seed(noise)
        else:
            model.load_state_dict(saved["model"])
        return model

    def _home(self, stage: str) -> torch.device:
        """Where the model of a stage begins: in the host's memory, where no device has to hold all of it."""
        processes = self.context.processes
        if processes.world == 1 or stage not in self.context.blueprint.stages:
            return processes.device
        blueprint, asked = self.context.blueprint.of_stage(stage), self.context.options.distribute
        return CPU if divides(plan_stage(blueprint, stage, processes.world, asked), processes) else processes.device

    def _untrained(self) -> Model:
        """Make the model with the weights of `start`, and save it with its vocabularies."""
        stored = self.context.folder.path / "tokenizers"
        model = self._model("", None)
        self.begin()
        model.start_teachers(list(model.worlds))
        self.context.processes.by_main(lambda: len(ready_tokenizers(self.context.blueprint, stored, {})))
        save(self.context, model, Progress(0, 0, 0, ""), None, {})
        self.context.listener.note("there are no stages: the weights are those that it starts with")
        return model

    def _fitted(self, model: Model, before: str, after: str) -> Model:
        """Fit the weights to the next stage: tables of positions for other sizes."""
        stages = self.context.blueprint.of_stage(before), self.context.blueprint.of_stage(after)
        fitted, notes = fit(model, *stages, self.context.options.seed)
        for note in notes:
            self.context.listener.note(f"stage {after}: {note}")
        return fitted

    def _saved(self) -> dict[str, Any] | None:
        """Load the newest checkpoint that can be read."""
        for path in checkpoint.newest_first(self.context.folder.checkpoints):
            try:
                checkpoint.verify(path)
            except UserError as damage:
                self.context.listener.note(f"passing over checkpoint {path.name}: {damage}")
                continue
            self.context.listener.note(f"resuming from {path.name}")
            expected = fingerprint(blueprint_of(path, self.context.blueprint))
            keys = [
                key for key in checkpoint.keys(path) if key != "optimizer"
            ]  # whose moments each process reads later
            saved = checkpoint.load(path, only=keys, blueprint=expected, device=str(self.context.processes.device))
            saved["path"] = path
            for difference in differences(saved, self.context.processes):
                self.context.listener.note(difference)
            return saved
        self.context.listener.note("nothing of this run had been saved: it starts at the beginning")
        return None
