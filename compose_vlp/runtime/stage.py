"""A stage's numbers: quantities turned into steps, params and rates into functions of the step."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from compose_vlp.blueprint.scalars import Memory, Quantity
from compose_vlp.blueprint.schedules import Schedule as Written
from compose_vlp.blueprint.sections import Distribute, EngineName, Optimizer, Precision
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.graph.checking.batches import BATCH
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import ParamRef
from compose_vlp.runtime.layer_decay import layer_factors
from compose_vlp.runtime.optimizer import AdamW, Rate, Rule, choose_trained, parameter_paths, set_modes
from compose_vlp.runtime.schedules import Schedule

CUT = "COMPOSE_VLP_DOCS_STEPS"
"""Environment variable that ends every stage after so many steps: examples run in tests at that length."""
CUT_RECORDS = 2_000
"""So many records at most are read for a vocabulary where the stages are cut."""


@dataclass(frozen=True)
class Scale:
    """What quantities are measured against: records of the source, records a step, steps of the stage."""

    records: int
    batch: int
    steps: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return max(self.records // self.batch, 1)

    def in_steps(self, quantity: Quantity) -> int:
        """Round to the nearest whole number of steps, at least one (or none of a quantity of zero)."""
        sizes = {
            "steps": 1.0,
            "epochs": float(self.steps_per_epoch),
            "samples": 1 / self.batch,
            "percent": self.steps / 100,
        }
        exact = quantity.value * sizes[quantity.unit]
        return max(round(exact), 1 if exact > 0 else 0)


@dataclass(frozen=True)
class StagePlan:
    """A stage with the blueprint's defaults where it says nothing itself."""

    name: str
    losses: tuple[str, ...]
    length: Quantity
    batch: int
    train: tuple[str, ...]
    freeze: tuple[str, ...]
    optimizer: Optimizer
    precision: Precision
    checkpoint: Quantity | None
    accumulate: int
    bucket: int | None
    distribute: Distribute
    recompute: Memory | tuple[str, ...]


def plan_stage(
    blueprint: CheckedBlueprint, name: str, processes: int = 1, distribute: EngineName | None = None
) -> StagePlan:
    """Plan a stage as it will run; `distribute` is what `--distribute` says.

    Raises:
        UserError: neither the stage nor the blueprint says its length or its optimizer; a batch, or processes, that do
            not fall into equal parts.
    """
    stage, defaults = blueprint.stages[name], blueprint.settings
    length = stage.length or defaults.get("length")
    optimizer = stage.optimizer or blueprint.optimizer
    if length is None:
        raise UserError(f"stage {name!r} has no length", hints=["`length: 10 epochs`, in the stage or at the top"])
    if optimizer is None:
        raise UserError(f"stage {name!r} has no optimizer", hints=["`optimizer: {use: adamw, lr: 1e-4}`"])
    train, freeze = patterns_of_stage(blueprint, name)
    batch = batch_of_stage(blueprint, name)
    if batch % (parts := processes * stage.accumulate):
        words = [f"{processes} processes"] if processes > 1 else []
        words += [f"{stage.accumulate} pieces"] if stage.accumulate > 1 else []
        near = [number for number in (batch // parts * parts, (batch // parts + 1) * parts) if number]
        raise UserError(
            f"stage {name!r}: a batch of {batch} records does not fall into {' x '.join(words)} of one size",
            hints=[" or ".join(f"`batch: {number}`" for number in near)],
        )
    return StagePlan(
        name=name,
        losses=stage.losses,
        length=length,
        batch=batch,
        train=train,
        freeze=freeze,
        optimizer=optimizer,
        precision=precision_of_stage(blueprint, name),
        checkpoint=stage.checkpoint,
        accumulate=stage.accumulate,
        bucket=stage.bucket,
        distribute=engine_of_stage(blueprint, name, processes, distribute),
        recompute=recompute_setting(blueprint, name),
    )


def batch_of_stage(blueprint: CheckedBlueprint, name: str) -> int:
    """Records a step, over all processes."""
    return blueprint.stages[name].batch or blueprint.settings.get("batch") or BATCH


def precision_of_stage(blueprint: CheckedBlueprint, name: str) -> Precision:
    """Give the precision of a stage's arithmetic: its own, or else that of the top, or float32."""
    precision: Precision = blueprint.stages[name].precision or blueprint.settings.get("precision") or "fp32"
    return precision


def recompute_setting(blueprint: CheckedBlueprint, name: str) -> Memory | tuple[str, ...]:
    """What a stage, or else the top, says of layers that run again in the backward: names, or an amount of memory."""
    own = blueprint.stages[name].recompute
    return own if own is not None else blueprint.settings.get("recompute", ())


def engine_of_stage(
    blueprint: CheckedBlueprint, name: str, processes: int = 1, distribute: EngineName | None = None
) -> Distribute:
    """How processes share a stage's work: as the command line says, else the stage, else the top; `ddp` if nobody does.

    What a blueprint says beside the engine holds where the command line (`distribute`) names the same one.

    Raises:
        UserError: groups of so many shards do not divide the processes.
    """
    how: Distribute | None = blueprint.stages[name].distribute or blueprint.settings.get("distribute")
    if how is None or (distribute is not None and how.use != distribute):
        how = Distribute(use=distribute or "ddp")
    if how.use != "hybrid" or processes == 1:
        return how
    shards = how.shards or int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if processes % shards or shards == 1:
        each = f"`shards: {shards}`" if how.shards else f"each machine's {shards}"
        fitting = [number for number in range(2, processes + 1) if processes % number == 0]
        raise UserError(
            f"`distribute: hybrid` divides the model within groups of two or more: {processes} processes do not fall "
            f"into groups of {shards} ({each})",
            hints=[f"`distribute: {{use: hybrid, shards: {number}}}`" for number in fitting[:3]],
        )
    return how.model_copy(update={"shards": shards})


def patterns_of_stage(blueprint: CheckedBlueprint, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List what a stage trains (everything, where that is empty) and what it freezes."""
    stage, defaults = blueprint.stages[name], blueprint.settings
    train = stage.train if stage.train is not None else defaults.get("train", ())
    freeze = stage.freeze if stage.freeze is not None else defaults.get("freeze", ())
    return train, freeze


def choose_of_stage(model: Model, blueprint: CheckedBlueprint, name: str) -> Callable[[str], bool]:
    """Set what of a model a stage trains, and the modes of its modules; gives whether it trains any of a component.

    Raises:
        UserError: a pattern names no parameter.
    """
    modules = model.parts()
    choose_trained(parameter_paths(modules), *patterns_of_stage(blueprint, name))
    set_modes(modules)
    return lambda component: any(parameter.requires_grad for parameter in modules[component].parameters())


def stage_model(blueprint: CheckedBlueprint, name: str) -> tuple[Model, Callable[[str], bool]]:
    """Build a stage's model without numbers, what it trains set; gives a test of which components it trains, too.

    Raises:
        UserError: a pattern names no parameter.
    """
    own = blueprint.of_stage(name)
    model = build(own, "meta")
    return model, choose_of_stage(model, own, name)


def compile_stages(
    blueprint: CheckedBlueprint, stage: str | None = None, *, without: Collection[str] = ()
) -> dict[str, Compiled]:
    """Compile the training program of each stage, or of one; `without` names passes to leave out.

    Raises:
        UserError: a pattern of what a stage trains names no parameter.
    """
    names = [stage] if stage else list(blueprint.stages)
    return {
        name: compile_stage(blueprint, name, trainable=stage_model(blueprint, name)[1], without=without)
        for name in names
    }


def stage_steps(length: Quantity, records: int, batch: int) -> int:
    """Count the steps of a stage, cut where the environment asks for it."""
    if batch > records:
        raise UserError(f"a step takes {batch} records, and the source has {records}", hints=["a smaller `batch`"])
    steps = Scale(records, batch).in_steps(length)
    return min(steps, int(os.environ[CUT])) if os.environ.get(CUT) else steps


class Values:
    """The params of a blueprint as functions of a stage's step."""

    def __init__(self, params: Mapping[str, Any], scale: Scale) -> None:
        self._scale = scale
        self._rates = {name: rate_of(value, scale) for name, value in params.items()}

    def rate(self, value: Any) -> Rate:
        """Read a number, a schedule or `$name`, as a function of the step."""
        if isinstance(value, ParamRef):
            return self._rates[value.name]
        return rate_of(value, self._scale)

    def at(self, step: int) -> dict[str, float]:
        """All params at a step."""
        return {name: rate(step) for name, rate in self._rates.items()}


def rate_of(value: Any, scale: Scale) -> Rate:
    """Read a number, or a schedule measured in this stage's steps."""
    if not isinstance(value, Written):
        return _constant(value)
    over = scale.in_steps(value.until) if value.until else scale.steps
    warmup = scale.in_steps(value.warmup) if value.warmup else 0
    return Schedule(value.form, value.start, value.end, over, warmup, value.warmup_from).at


def _constant(value: float) -> Callable[[int], float]:
    return lambda _: value


def optimizer_of(settings: Optimizer, values: Values, modules: Mapping[str, nn.Module]) -> AdamW:
    """Make the optimizer of a section, its rates as functions of the step; `modules` are the model's parts by name."""
    rules = tuple(
        Rule(
            rule.match,
            weight_decay=rule.weight_decay,
            lr_scale=rule.lr_scale,
            lr=values.rate(rule.lr) if rule.lr is not None else None,
            max_dims=rule.max_dims,
        )
        for rule in settings.rules
    )
    return AdamW(
        values.rate(settings.lr),
        settings.betas,
        settings.eps,
        settings.weight_decay,
        settings.clip,
        rules,
        layer_factors(settings.layer_decay, modules),
    )


def loss_weights(
    blueprint: CheckedBlueprint, names: Mapping[str, Any], values: Values
) -> Callable[[int], dict[str, float]]:
    """Each active loss's weight as a function of the step."""
    rates = {name: values.rate(blueprint.weight_of(name)) for name in names}
    return lambda step: {name: rate(step) for name, rate in rates.items()}


def teacher_decays(blueprint: CheckedBlueprint, values: Values) -> Callable[[int], dict[str, float]]:
    """Each teacher's decay as a function of the step."""
    rates = {name: values.rate(teacher.decay) for name, teacher in blueprint.teachers.items()}
    return lambda step: {name: rate(step) for name, rate in rates.items()}
