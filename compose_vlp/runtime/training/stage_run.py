"""One stage of a run, from its data to its last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import torch

from compose_vlp.blueprint.inputs import Input
from compose_vlp.blueprint.scalars import Quantity
from compose_vlp.compiler.accumulation import compile_pieces
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model
from compose_vlp.compiler.recompute import recomputed_layers
from compose_vlp.compiler.teachers import following
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.loader import Loader
from compose_vlp.data.source import Source
from compose_vlp.errors import Stopped, UserError
from compose_vlp.graph.checking.schedules import too_short
from compose_vlp.graph.checking.trainings import without_others
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.protocols import AfterStep
from compose_vlp.readable import count, several
from compose_vlp.runtime.device import autocast, peak_memory
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.memory import Recompute, recompute_of_stage
from compose_vlp.runtime.optimizer import make_optimizer, parameter_paths
from compose_vlp.runtime.sources import ready_tokenizers, stage_sources
from compose_vlp.runtime.stage import (
    Scale,
    Values,
    choose_of_stage,
    loss_weights,
    optimizer_of,
    plan_stage,
    stage_steps,
    teacher_decays,
)
from compose_vlp.runtime.state import generators
from compose_vlp.runtime.state.scores import tracked_names
from compose_vlp.runtime.training import saving
from compose_vlp.runtime.training.engines import make_engine, whole_model
from compose_vlp.runtime.training.gradients import Gradients, InOneGo, InPieces
from compose_vlp.runtime.training.hanging import Doing
from compose_vlp.runtime.training.loop import NotFinite, StageLoop, StepReport
from compose_vlp.runtime.training.not_finite import explain
from compose_vlp.runtime.training.run_context import RunContext
from compose_vlp.runtime.training.stage_evaluation import Evaluation, stage_evaluation
from compose_vlp.runtime.training.summary import Summary

READERS = 2
"""Worker processes that read ahead where pictures have to be decoded and nobody says how many."""


@dataclass
class StageRun:
    """Stage `number` of a run's blueprint on `model`; `before` are the steps of the stages before it.

    What it needs is made in the order in which mistakes are likely and cheap to find: numbers, data, tokenizers,
    what is trained, the programs, and readers of data last.
    """

    context: RunContext
    number: int
    before: int
    model: Model

    def __post_init__(self) -> None:
        self.name = list(self.context.blueprint.stages)[self.number]
        self.blueprint: CheckedBlueprint = self.context.blueprint.of_stage(self.name)
        self.processes = self.context.processes
        self.plan = plan_stage(self.blueprint, self.name, self.processes.world, self.context.options.distribute)
        opened = self.context.sources.get(self.name)
        self.sources = dict(opened) if opened is not None else stage_sources(self.blueprint, self.name)
        records = min(len(source) for source in self.sources.values())
        self.steps = stage_steps(self.plan.length, records, self.plan.batch)
        self.scale = Scale(records, self.plan.batch, self.steps)
        self.values = Values(self.blueprint.params, self.scale)
        self._look_over()
        self.tokenizers = self._tokenizers()
        self.model.tokenizers = dict(self.tokenizers)
        Asker(self.blueprint, self.model, self.tokenizers, self.processes.device).check()
        self.evaluation = self._evaluation_of(self.model)
        self._is_trained = choose_of_stage(self.model, self.blueprint, self.name)
        self.recompute = self._chosen_layers()
        again = recomputed_layers(self.model, self.blueprint, self.recompute.names)
        self.engine = make_engine(self.model, self.plan, self.processes, again)
        self.modules = self.model.parts()
        self.paths = parameter_paths(self.modules)
        self.optimizer = make_optimizer(self.paths, optimizer_of(self.plan.optimizer, self.values, self.modules))
        self.compiled = compile_stage(
            self.context.blueprint, self.name, trainable=self._is_trained, without=self.context.options.without
        )
        gradients = self._gradients()
        # A source that only a tokenizer learns from gives no batches.
        self.loaders = {name: self._loader(name, source) for name, source in self.sources.items() if self._inputs(name)}
        self.first = 0
        self.loop = self._loop(gradients)
        self.summary = Summary(self.name)

    def _chosen_layers(self) -> Recompute:
        options = self.context.options
        chosen = recompute_of_stage(
            self.context.blueprint,
            self.name,
            processes=self.processes.world,
            distribute=options.distribute,
            without=options.without,
        )
        chosen.refuse_excess()
        return chosen

    def _look_over(self) -> None:
        """Tell what the stage is too short for, and refuse one record a process where losses compare it with others.

        What quantities in epochs come to is known only here, where the number of records is.
        """
        losses = [name for name in self.plan.losses if self.blueprint.losses[name].active]
        if self.plan.batch == self.processes.world:
            names = without_others(self.blueprint, losses, gathered=self.processes.world == 1)
            if names:
                raise UserError(
                    f"stage {self.name!r}: one record a process, and {', '.join(names)} compares it with others",
                    hints=[f"`batch: {2 * self.processes.world}` or more"],
                )
        measure = lambda quantity: ("steps", float(self.scale.in_steps(quantity)))  # noqa: E731
        for note in too_short(self.blueprint, self.name, Quantity(self.steps, "steps"), measure):
            self.context.listener.note(note)

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where a checkpoint of this stage was saved."""
        self.first = saved["progress"]["step"]
        if "data" in saved:
            saving.load_moments(saved["path"], self.optimizer.torch)
            for name, state in saving.own(saved["data"], self.processes).items():
                self.loaders[name].load_state_dict(state)

    def run(self, noise: dict[str, Any]) -> None:
        """Do the stage's steps, or what is left of them, beginning with the generators in the state `noise`.

        What was drawn while the stage was made ready counts for nothing, since a run that goes on makes it ready, too.

        Raises:
            UserError: a loss that is not finite, or a checkpoint that cannot be saved.
            Stopped: somebody asked the run to stop; what was done is saved.
        """
        context = self.context
        for teacher in self.model.start_teachers(following(self.blueprint, self.compiled.plan)):
            context.listener.note(f"teacher {teacher} starts as a copy")
        generators.restore(noise)
        context.listener.note(self._what_it_does())
        if self.plan.recompute:
            context.listener.note(self.recompute.text(self.model))
        if self.processes.world == 1 and (engine := self.plan.distribute.use) != "ddp":
            context.listener.note(
                f"one process divides nothing, whatever `distribute: {engine}` says: torchrun starts several"
            )
        context.listener.stage(self.name, self.first, self.steps)
        context.place.at(Doing.ENDING_THE_STEP, self.before + self.first)
        with context.stopping.patiently():
            try:
                for report in self.loop.run(self.first, self.steps):
                    self._after(report)
            except NotFinite as failure:
                raise explain(failure, self.context, self.name, self.model, self.compiled) from None
            self._end()
        self._sum_up()
        if self.number + 1 < len(context.blueprint.stages) and (asked := self._asked()):
            self._leave(asked, f"after the last step of stage {self.name}")

    def _what_it_does(self) -> str:
        """Say in one line where and on what the stage trains."""
        trained = {id(weight): weight.numel() for g in self.optimizer.torch.param_groups for weight in g["params"]}
        weights = {id(weight): weight.numel() for weight in self.model.parameters()}
        device, processes = self.processes.device, self.processes.world
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        records = ", ".join(f"{several(len(source), 'record')} of {name}" for name, source in self._named_sources())
        batch = f"{self.plan.batch}" + (f" in {self.plan.accumulate} pieces" if self.plan.accumulate > 1 else "")
        batch += f" with texts of like length, chosen among {self.plan.bucket} batches" if self.plan.bucket else ""
        batch += f" on {processes} processes ({self.plan.distribute.use})" if processes > 1 else ""
        readers = sum(loader.workers for loader in self.loaders.values())
        return (
            f"stage {self.name} on {where} in {self.plan.precision}: {count(sum(trained.values()))} of "
            f"{count(sum(weights.values()))} parameters trained; {records}; {several(self.steps, 'step')} of {batch}; "
            f"{readers or 'no'} process{'' if readers == 1 else 'es'} reading ahead"
        )

    def _named_sources(self) -> list[tuple[str, Source]]:
        """Sources by the names that they have under `data`."""
        data = self.blueprint.stages[self.name].data
        return [(data if isinstance(data, str) else data[name], source) for name, source in self.sources.items()]

    def _after(self, report: StepReport) -> None:
        context, done = self.context, report.step + 1
        context.place.at(Doing.ENDING_THE_STEP, self.before + done)
        self.summary.add(report)
        context.listener.step(report)
        if report.step % context.options.log_every == 0 or done == self.steps:
            context.tracker.metrics(self._metrics(report), self.before + report.step)
        if asked := self._asked():
            self._save(self.number, done)
            self._sum_up()
            self._leave(asked, f"after step {done} of {self.steps} of stage {self.name}")
        if done < self.steps:
            self._evaluate(done)
            if done % self.checkpoint_every == 0:
                self._save(self.number, done)

    def _asked(self) -> int:
        """Give the signal that any of the processes was told to stop by; all of them stop together, and save."""
        return self.processes.highest(self.context.stopping.asked)

    def _leave(self, asked: int, when: str) -> NoReturn:
        self.context.saver.wait()
        resume = f"compose-vlp train --resume {self.context.folder.path}"
        self.context.listener.note(f"stopped {when}, which is saved; go on with `{resume}`")
        raise Stopped(asked)

    def _end(self) -> None:
        """Measure what was learnt, which must not cost it where that fails or is stopped, and save."""
        if self.evaluation:
            self._save(self.number, self.steps)
            measured = self._evaluate(self.steps)
            if asked := self.processes.highest(0 if measured else self.context.stopping.asked):
                self._leave(asked, f"before the evaluation at the end of stage {self.name}")
        self._save(self.number + 1, 0)
        self.context.saver.wait()

    def _evaluate(self, done: int) -> bool:
        """Measure in the first process, where that is due; before saving, so that what is saved has been measured.

        False where a signal broke it off: measuring may take longer than a run that is told to stop is given.
        """
        context, asked = self.context, self.evaluation
        if asked is None or not asked.is_due(done, self.steps):
            return True
        model = whole_model(self.model, self.blueprint, self.processes.device, self.processes, everywhere=False)
        if not self.processes.main:
            return True
        step = self.before + done
        try:
            with context.place.busy(Doing.EVALUATING), context.stopping.breaking_off():
                again = asked if model is self.model else self._evaluation_of(model)
                assert again is not None
                seen = again.seen()
        except Stopped:
            context.listener.note(
                f"{asked.data} is not measured after {several(step, 'step')}: the run was told to stop"
            )
            return False
        scores = dict(seen.scores)
        context.listener.evaluated(asked.data, step, scores)
        for sample in seen.samples:
            context.listener.note(f"  {sample}")
        context.tracker.metrics(tracked_names(asked.data, scores), step)
        known = context.folder.info.extra
        context.folder.update(
            scores={**known.get("scores", {}), asked.data: {"step": step, **scores}},
            samples={**known.get("samples", {}), asked.data: list(seen.samples)},
        )
        return True

    def _evaluation_of(self, model: Model) -> Evaluation | None:
        asker = Asker(self.blueprint, model, self.tokenizers, self.processes.device)
        return stage_evaluation(asker, self.blueprint.stages[self.name], self.scale, self.context.measure)

    def _sum_up(self) -> None:
        skipped = float(sum(len(loader.skipped) for loader in self.loaders.values()))
        self.summary.skipped = int(self.processes.total([skipped])[0])
        self.summary.peak_memory = peak_memory(self.processes.device)
        self.context.listener.end(self.summary)
        if self.processes.main:
            known = self.context.folder.info.extra.get("stages", {})
            parameters = sum(self.model.component_parameters().values())
            self.context.folder.update(stages={**known, self.name: self.summary.as_json()}, parameters=parameters)

    def _metrics(self, report: StepReport) -> dict[str, float]:
        metrics = {f"{self.name}/{name}": value for name, value in report.losses.items()}
        metrics |= {f"{self.name}/loss": report.total, f"{self.name}/lr": report.lr}
        if report.gradient_norm is not None:
            metrics[f"{self.name}/gradient_norm"] = report.gradient_norm
        metrics[f"{self.name}/step_seconds"] = report.seconds
        metrics[f"{self.name}/waiting_share"] = report.waiting / report.seconds
        return metrics

    def _save(self, stage: int, step: int) -> None:
        """Save where stage `stage` has done `step` steps; all processes do so together."""
        finished = stage > self.number
        total = self.before + (self.steps if finished else step)
        progress = saving.Progress(stage, step, total - step, self.name)
        with self.context.place.busy(Doing.SAVING):
            saving.save(self.context, self.model, progress, None if finished else self.optimizer.torch, self.loaders)

    @cached_property
    def checkpoint_every(self) -> int:
        asked = self.plan.checkpoint
        return self.scale.in_steps(asked) if asked else self.context.options.checkpoint_every

    def _tokenizers(self) -> dict[str, Tokenizer]:
        """Open the tokenizers: the first process learns what has to be learnt, and the others read it."""
        stored = self.context.folder.path / "tokenizers"
        if self.processes.world > 1:
            self.processes.by_main(lambda: len(ready_tokenizers(self.blueprint, stored, self.sources)))
        return ready_tokenizers(self.blueprint, stored, self.sources)

    def _gradients(self) -> Gradients:
        precision = autocast(self.processes.device, self.plan.precision)
        if self.plan.accumulate == 1:
            return InOneGo(self.engine, self.compiled.run, self.processes, precision)
        without = self.context.options.without
        pieces = compile_pieces(self.context.blueprint, self.name, trainable=self._is_trained, without=without)
        return InPieces(self.engine, pieces, self.plan.accumulate, self.processes, precision)

    def _loader(self, name: str, source: Source) -> Loader:
        return Loader(
            source,
            self._inputs(name),
            self.tokenizers,
            batch=self.plan.batch // self.processes.world,
            seed=self.context.options.seed,
            rank=self.processes.rank,
            world=self.processes.world,
            workers=choose_workers(self.context.options.workers, source),
            pin=self.processes.device.type == "cuda",
            bucket=self.plan.bucket,
        )

    def _inputs(self, source: str) -> dict[str, Input]:
        """Collect the inputs that the program reads from one of the stage's sources."""
        read = [call.target for call in self.compiled.plan.calls if call.role == "input"]
        inputs = self.blueprint.inputs
        return {name: inputs[name] for name in read if inputs[name].source == source}

    def _loop(self, gradients: Gradients) -> StageLoop:
        return StageLoop(
            model=self.model,
            gradients=gradients,
            optimizer=self.optimizer,
            batches=self._batches(),
            weights=loss_weights(self.blueprint, self.compiled.plan.results, self.values),
            params=self.values.at,
            decays=teacher_decays(self.blueprint, self.values),
            after_step=[module for module in self.model.modules() if isinstance(module, AfterStep)],
        )

    def _batches(self) -> Iterator[dict[str, Any]]:
        streams = [iter(loader) for loader in self.loaders.values()]
        while True:
            self.context.place.at(Doing.READING_DATA)
            batch: dict[str, Any] = {}
            for stream in streams:
                values = next(stream).values
                batch.update({name: value.to(self.processes.device) for name, value in values.items()})
            self.context.place.at(Doing.COMPUTING)
            yield batch


def choose_workers(asked: int | None, source: Source) -> int:
    """Worker processes that read a source: as asked for, or a few where its pictures have to be decoded."""
    if asked is not None:
        return asked
    return min(READERS, max((os.cpu_count() or 1) - 1, 1)) if source.decodes else 0
