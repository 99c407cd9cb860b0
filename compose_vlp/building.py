"""Building a blueprint: everything that can be known of a model before it has weights, in a folder and in tracking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.readable import count, work

if TYPE_CHECKING:
    import torch

    from compose_vlp.compiler.compile import Compiled
    from compose_vlp.compiler.explain import Effect
    from compose_vlp.compiler.figures import Figure
    from compose_vlp.compiler.memory_plan import MemoryPlan
    from compose_vlp.compiler.report import Report
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.tracking.records import Ending


@dataclass(frozen=True)
class Built:
    """What a build found and wrote. `sources` are the generated programs; `message` is what tracking could not send."""

    folder: Path
    files: Mapping[str, Path]
    report: Report
    figures: tuple[Figure, ...]
    sources: Mapping[str, str]
    message: str | None = None


def memory(
    checked: CheckedBlueprint,
    stage: str | None,
    *,
    world: int,
    batch: int | None,
    card: str | None,
    without: Collection[str] = (),
) -> list[MemoryPlan]:
    """Say what each of `world` processes holds in a stage's step, engine by engine.

    Raises:
        UserError: no stages, processes that do not divide the batch, a card that is not known.
    """
    from compose_vlp.blueprint.scalars import Memory
    from compose_vlp.compiler.memory_plan import MACHINE, card_memory, rows_of_process
    from compose_vlp.runtime.memory import StageMemory, recompute_of_stage
    from compose_vlp.runtime.stage import plan_stage

    name = _stage(list(checked.stages), stage)
    if name is None:
        raise UserError("the blueprint has no stages, so there is no step", hints=("`stages: {train: {...}}`",))
    size = card_memory(card) if card is not None else None
    plan = plan_stage(checked, name)
    rows = rows_of_process(batch or plan.batch, world, plan.accumulate)
    counted = StageMemory(checked, name, plan.distribute, world=world, rows=rows, without=without, card=size)
    shards = plan.distribute.shards or MACHINE
    hybrid = ("hybrid",) if world > shards and world % shards == 0 else ()
    engines = ("ddp", "fsdp", *hybrid) if world > 1 else ("ddp",)
    if isinstance(plan.recompute, Memory):
        plans = [counted.least(each, plan.recompute.bytes) for each in engines]
    else:
        names = recompute_of_stage(checked, name).names
        plans = [counted.plan(each, names) for each in engines]
    return [counted.fitting(each) for each in plans] if not any(each.fits for each in plans) else plans


def build(
    checked: CheckedBlueprint,
    *,
    out: Path | None = None,
    stage: str | None = None,
    without: Collection[str] = (),
    batch: int = 8,
    track: bool = True,
    command: Sequence[str] = (),
) -> Built:
    """Compile and measure on the meta device; write the papers into a run folder, and log them.

    `stage` is the one that is measured, the first if left out; `without` names passes to leave out. A blueprint without
    stages has no step, and is built all the same.

    Raises:
        UserError: no such stage or pass.
    """
    from compose_vlp.compiler.figures import figures
    from compose_vlp.picture import Numbers
    from compose_vlp.runtime.stage import compile_stages
    from compose_vlp.runtime.state.run_folder import RunFolder
    from compose_vlp.tracked import open_tracker
    from compose_vlp.training import parameter_counts, prepare_folder, program_sources, sizes

    measured = _stage(list(checked.stages), stage)
    stages: dict[str, Compiled] = compile_stages(checked, without=without)
    report = measure(checked, measured, stages[measured] if measured is not None else None, batch)
    by_component = report.parameters["by_component"]
    step = report.flops["step"]
    adapted = sizes(checked).adapted if checked.adapters else {}
    facts = [("parameters", count(report.parameters["total"]))]
    facts += [(f"step of {batch}", work(step))] if step is not None else []
    alike = measured is None or checked.of_stage(measured) is checked
    compared = figures(
        checked.document, by_component if alike else sizes(checked).parameters, lambda: parameter_counts(checked)
    )
    files: dict[str, Path] = {}

    def papers(path: Path) -> None:
        files.update(prepare_folder(checked, path, stages, Numbers(by_component, tuple(facts), adapted)))

    folder = RunFolder.create(checked.name, 0, command, at=out, extra={"kind": "build"}, fill=papers)
    ending: Ending = "FAILED"
    try:
        tracker = open_tracker(checked, folder, files, track)
        tracker.tags({"kind": "build"})
        measures = {"build.parameters": report.parameters["total"], "build.flops": step}
        tracker.metrics({name: value for name, value in measures.items() if value is not None}, 0)
        message = tracker.finish("FINISHED")
        ending = "FINISHED"
    finally:
        folder.finish(ending)
    written = {name: folder.path / file for name, file in files.items()}
    return Built(folder.path, written, report, compared, program_sources(checked, stages), message)


def measure(checked: CheckedBlueprint, stage: str | None, compiled: Compiled | None, batch: int) -> Report:
    """Measure a stage's program, with what the stage sets and trains, beside the same without passes."""
    from compose_vlp.compiler.compile import compile_stage
    from compose_vlp.compiler.model import build as build_model
    from compose_vlp.compiler.passes import PASSES
    from compose_vlp.compiler.report import build_report, report_without_stages
    from compose_vlp.runtime.layer_decay import layer_levels
    from compose_vlp.runtime.memory import recompute_of_stage
    from compose_vlp.runtime.stage import precision_of_stage, stage_model

    if stage is None or compiled is None:
        return report_without_stages(checked, build_model(checked, "meta"), batch)
    plain = compile_stage(checked, stage, without=list(PASSES))
    model, _ = stage_model(checked, stage)
    optimizer = checked.stages[stage].optimizer or checked.optimizer
    decay = optimizer.layer_decay if optimizer is not None else None
    levels = [asdict(level) for level in layer_levels(decay, model.parts())] if decay is not None else []
    recompute = recompute_of_stage(checked, stage).as_json()
    precision = precision_of_stage(checked, stage)
    return build_report(checked.of_stage(stage), model, compiled, plain, batch, levels, recompute, precision)


def explain(
    checked: CheckedBlueprint,
    *,
    stage: str | None = None,
    without: Collection[str] = (),
    batch: int = 8,
    device: torch.device | None = None,
) -> tuple[Effect, ...]:
    """Measure a stage's program before and after each pass, as `build` measures it; none where there are no stages.

    On a `device`, steps are timed too, with weights made for it.

    Raises:
        UserError: no such stage or pass, or a step that does not fit on the device.
    """
    from compose_vlp.compiler.explain import StepTimer
    from compose_vlp.compiler.explain import explain as explain_passes
    from compose_vlp.runtime.memory import recompute_of_stage
    from compose_vlp.runtime.stage import choose_of_stage, precision_of_stage, stage_model

    name = _stage(list(checked.stages), stage)
    if name is None:
        return ()
    own = checked.of_stage(name)
    model, trainable = stage_model(checked, name)
    timer = None
    if device is not None:
        timer = StepTimer(checked, name, lambda made: choose_of_stage(made, own, name), device, batch)
    recompute = recompute_of_stage(checked, name).names
    return explain_passes(
        checked,
        name,
        model,
        trainable,
        rows=batch,
        without=without,
        recompute=recompute,
        precision=precision_of_stage(checked, name),
        timer=timer,
    )


def _stage(stages: Sequence[str], name: str | None) -> str | None:
    if name is not None and name not in stages:
        hint = ", ".join(stages) or "the blueprint has none: `stages: {train: {...}}`"
        raise UserError(f"no stage is called {name!r}", hints=did_you_mean(name, stages) or (hint,))
    return name or next(iter(stages), None)
