"""Training a blueprint through its stages: what a run needs is opened, run, saved and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from compose_vlp.blueprint.inputs import Input
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, build, fingerprint
from compose_vlp.compiler.teachers import taught_by
from compose_vlp.data.loader import Loader
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime import checkpoint, generators
from compose_vlp.runtime.device import choose_device, make_accelerator
from compose_vlp.runtime.evaluating import Measure, stage_evaluation
from compose_vlp.runtime.listener import Listener, Silent
from compose_vlp.runtime.loop import StageLoop, StepReport
from compose_vlp.runtime.optimizer import choose_trained, make_optimizer, parameter_paths, set_modes
from compose_vlp.runtime.outputs import Asker
from compose_vlp.runtime.run_folder import RunFolder
from compose_vlp.runtime.sources import ready_tokenizers, stage_sources
from compose_vlp.runtime.stage import (
    Scale,
    Values,
    loss_weights,
    optimizer_of,
    plan_stage,
    stage_steps,
    teacher_decays,
)
from compose_vlp.tracking import NullTracker, Tracker


@dataclass(frozen=True)
class TrainOptions:
    """What may be said of a run beside its blueprint; of these only `seed` and `device` change what is learnt."""

    seed: int = 0
    device: str | None = None
    workers: int = 0
    log_every: int = 10
    checkpoint_every: int = 500
    keep: int = 2
    without: tuple[str, ...] = ()


@dataclass
class Trainer:
    """Trains in a run folder; `initialise(model)` brings in pretrained weights where a run begins.

    `measure` is what evaluates where a stage asks for it.
    """

    blueprint: CheckedBlueprint
    folder: RunFolder
    measure: Measure
    options: TrainOptions = TrainOptions()
    tracker: Tracker = field(default_factory=NullTracker)
    listener: Listener = field(default_factory=Silent)
    initialise: Callable[[Model], None] = lambda _: None

    def run(self, *, resume: bool = False) -> Model:
        """All stages, or what is left of them; gives the trained model, in eval mode.

        Raises:
            UserError: data, tokenizers or a checkpoint that do not fit; a loss that is not finite.
        """
        if not self.blueprint.stages:
            raise UserError(f"{self.blueprint.name} has no stages, so there is nothing to train")
        device = choose_device(self.options.device)
        model = build(self.blueprint, device, self.options.seed)
        saved = self._saved(device) if resume else None
        if saved is None:
            self.initialise(model)
            generators_state = None
        else:
            model.load_state_dict(saved["model"])
            generators_state = saved["generators"]
        begin = saved["progress"] if saved else {"stage": 0, "step": 0, "before": 0}
        before = begin["before"]
        for number, name in enumerate(self.blueprint.stages):
            if number < begin["stage"]:
                continue
            here = saved if saved and number == begin["stage"] else None
            stage = _Stage(self, number, name, model, device, here, before)
            stage.run(generators_state)
            before += stage.steps
            generators_state = None
        return model.eval()

    def _saved(self, device: torch.device) -> dict[str, Any] | None:
        newest = checkpoint.latest(self.folder.checkpoints)
        if newest is None:
            self.listener.note("no checkpoint to resume from: starting at the beginning")
            return None
        self.listener.note(f"resuming from {newest.name}")
        return checkpoint.load(newest, blueprint=fingerprint(self.blueprint), device=str(device))


class _Stage:
    """One stage of a run, from its data to its last checkpoint."""

    def __init__(
        self,
        run: Trainer,
        number: int,
        name: str,
        model: Model,
        device: torch.device,
        saved: dict[str, Any] | None,
        before: int,
    ) -> None:
        self.run_, self.number, self.name, self.model, self.device = run, number, name, model, device
        self.before = before  # steps of the stages before this one
        blueprint, options = run.blueprint, run.options
        stage = plan_stage(blueprint, name)
        self.accelerator = make_accelerator(device, stage.precision)
        sources = stage_sources(blueprint, name)
        tokenizers = ready_tokenizers(blueprint, run.folder.path / "tokenizers", sources)
        world = self.accelerator.num_processes
        records = min(len(source) for source in sources.values())
        self.steps = stage_steps(stage.length, records, stage.batch)
        scale = Scale(records, stage.batch, self.steps)
        self.checkpoint_every = scale.in_steps(stage.checkpoint) if stage.checkpoint else options.checkpoint_every
        model.tokenizers = dict(tokenizers)
        asker = Asker(blueprint, model, tokenizers, device)
        self.evaluation = stage_evaluation(asker, blueprint.stages[name], scale, run.measure)
        modules = dict(model.components.named_children())
        paths = parameter_paths(modules)
        choose_trained(paths, stage.train, stage.freeze)
        set_modes(modules)
        values = Values(blueprint.params, scale)
        self.optimizer = make_optimizer(paths, optimizer_of(stage.optimizer, values))
        compiled = compile_stage(
            blueprint,
            name,
            trainable=lambda component: any(p.requires_grad for p in modules[component].parameters()),
            without=options.without,
        )
        self.loaders = {
            source: Loader(
                sources[source],
                _inputs(blueprint, compiled, source),
                tokenizers,
                batch=stage.batch // world,
                seed=options.seed,
                rank=self.accelerator.process_index,
                world=world,
                workers=options.workers,
                pin=device.type == "cuda",
            )
            for source in sources
        }
        self.first = 0
        if saved:
            self._restore(saved)
        for teacher in model.start_teachers(taught_by(compiled.plan)):
            run.listener.note(f"teacher {teacher} starts as a copy")
        self.loop = StageLoop(
            model=model,
            forward=self.accelerator.prepare_model(model) if world > 1 else model,
            program=compiled.run,
            optimizer=self.optimizer,
            batches=self._batches(),
            weights=loss_weights(blueprint, compiled.plan.wanted, values),
            params=values.at,
            autocast=self.accelerator.autocast,
            backward=self.accelerator.backward,
            decays=teacher_decays(blueprint, values),
            after_step=[module for module in model.modules() if hasattr(module, "after_step")],
        )

    def run(self, generators_state: dict[str, Any] | None) -> None:
        run, every = self.run_, self.run_.options
        if generators_state is not None:
            generators.restore(generators_state)
        run.listener.stage(self.name, self.first, self.steps)
        last = self.first
        for report in self.loop.run(self.first, self.steps):
            last = report.step + 1
            run.listener.step(report)
            if report.step % every.log_every == 0 or last == self.steps:
                run.tracker.metrics(self._metrics(report), self.before + report.step)
            if last < self.steps:
                self._evaluate(last)
                if last % self.checkpoint_every == 0:
                    self._save(self.number, last)
        self._end()
        run.listener.end()

    def _end(self) -> None:
        """Measure what was learnt, which must not cost it where that fails, and save."""
        if self.evaluation:
            self._save(self.number, self.steps)
            self._evaluate(self.steps)
        self._save(self.number + 1, 0)

    def _evaluate(self, done: int) -> None:
        """Measure in the first process, where that is due; before saving, so that what is saved has been measured."""
        run, asked = self.run_, self.evaluation
        if asked is None or not asked.is_due(done, self.steps) or not self.accelerator.is_main_process:
            return
        scores, step = asked.scores(), self.before + done
        run.listener.evaluated(asked.data, step, scores)
        run.tracker.metrics({f"{asked.data}.{name}": value for name, value in scores.items()}, step)
        run.folder.update(scores={**run.folder.info.extra.get("scores", {}), asked.data: {"step": step, **scores}})

    def _metrics(self, report: StepReport) -> dict[str, float]:
        metrics = {f"{self.name}.{name}": value for name, value in report.losses.items()}
        metrics |= {f"{self.name}.loss": report.total, f"{self.name}.lr": report.lr}
        if report.gradient_norm is not None:
            metrics[f"{self.name}.gradient_norm"] = report.gradient_norm
        metrics["step_seconds"] = report.seconds
        metrics["waiting_share"] = report.waiting / report.seconds
        return metrics

    def _batches(self) -> Iterator[dict[str, Any]]:
        streams = [iter(loader) for loader in self.loaders.values()]
        while True:
            batch: dict[str, Any] = {}
            for stream in streams:
                batch.update({name: value.to(self.device) for name, value in next(stream).values.items()})
            yield batch

    def _save(self, stage: int, step: int) -> None:
        if not self.accelerator.is_main_process:
            return
        finished = stage > self.number
        total = self.before + (self.steps if finished else step)
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "progress": {"stage": stage, "step": step, "before": total - step},
            "generators": generators.capture(),
        }
        if not finished:
            state["optimizer"] = self.optimizer.torch.state_dict()
            state["data"] = {name: loader.state_dict() for name, loader in self.loaders.items()}
        self.run_.tracker.flush()
        folder = checkpoint.step_folder(self.run_.folder.checkpoints, total)
        checkpoint.save(folder, state, step=total, blueprint=fingerprint(self.run_.blueprint))
        checkpoint.prune(self.run_.folder.checkpoints, self.run_.options.keep)

    def _restore(self, saved: dict[str, Any]) -> None:
        self.first = saved["progress"]["step"]
        if "optimizer" in saved:
            self.optimizer.torch.load_state_dict(saved["optimizer"])
            for name, loader in self.loaders.items():
                loader.load_state_dict(saved["data"][name])


def _inputs(blueprint: CheckedBlueprint, compiled: Compiled, source: str) -> dict[str, Input]:
    """The inputs that a program reads from one of the stage's sources."""
    read = [call.target for call in compiled.plan.calls if call.role == "input"]
    return {name: blueprint.inputs[name] for name in read if blueprint.inputs[name].source == source}
