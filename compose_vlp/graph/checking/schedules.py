"""Values that follow a stage's steps, where these are too few: a warm-up that never ends, a value never reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.blueprint.scalars import Quantity
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.errors import Span
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import ParamRef, Ref
from compose_vlp.graph.problems import Problems

Measure = Callable[[Quantity], tuple[str, float]]
"""A quantity as a unit and so many of it, so that two of one unit can be compared."""


@dataclass(frozen=True)
class Followed:
    """A schedule that a stage follows, what it is of, and where it stands."""

    what: str
    schedule: Schedule
    span: Span | None


def check_schedules(blueprint: CheckedBlueprint, problems: Problems) -> None:
    """Note schedules whose warm-up leaves no time for the rest, whatever the stage."""
    for stage in blueprint.stages:
        for scheduled in followed(blueprint, stage):
            warmup, over = scheduled.schedule.warmup, scheduled.schedule.until
            if warmup is None or over is None:
                continue
            measure = in_own_units(blueprint, stage)
            (unit, rises), (other, takes) = measure(warmup), measure(over)
            if unit == other and rises >= takes and problems.is_first(f"{scheduled.span} warms up"):
                field = "over" if scheduled.schedule.at is None else "at"
                message = (
                    f"{scheduled.what} warms up for {warmup}, and has {over} in all: `{field}` counts the warm-up too"
                )
                problems.add(message, scheduled.span, f"a shorter `warmup`, or a longer `{field}`")


def too_short(blueprint: CheckedBlueprint, stage: str, length: Quantity, measure: Measure) -> list[str]:
    """List what is never reached in a stage of that length, as far as `measure` can compare."""
    messages = []
    for scheduled in followed(blueprint, stage):
        missed = _missed(scheduled.schedule, measure(length), measure)
        if missed is not None:
            why, value = missed
            place = "" if scheduled.span is None else f" ({scheduled.span.file}:{scheduled.span.line})"
            messages.append(
                f"stage `{stage}` has {length}, and {scheduled.what} {why}: it never reaches {value:g}{place}"
            )
    return messages


def _missed(schedule: Schedule, length: tuple[str, float], measure: Measure) -> tuple[str, float] | None:
    """Give what takes longer than there is time for, and the value not reached; None where nothing is known to."""
    warmup = measure(schedule.warmup) if schedule.warmup else (length[0], 0.0)
    over = measure(schedule.until) if schedule.until else length
    if _longer(warmup, length):
        return f"warms up for {schedule.warmup}", schedule.start
    if schedule.start == schedule.end:
        return None
    if schedule.at is not None and (over == length or _longer(over, length)):
        return f"steps at {schedule.at}", schedule.end
    if _longer(over, length):
        return f"takes {schedule.over}", schedule.end
    if schedule.until and _longer(warmup, over):
        return f"warms up for {schedule.warmup}, of {schedule.until} in all", schedule.start
    return None


def _longer(this: tuple[str, float], other: tuple[str, float]) -> bool:
    return this[0] == other[0] and this[1] > other[1]


def notes(blueprint: CheckedBlueprint) -> list[str]:
    """List what is known of all stages before the number of records is."""
    messages = []
    for name, stage in blueprint.stages.items():
        length = stage.length or blueprint.settings.get("length")
        if isinstance(length, Quantity):
            own = blueprint.of_stage(name)
            messages += too_short(own, name, length, in_own_units(own, name))
    return messages


def in_own_units(blueprint: CheckedBlueprint, stage: str) -> Measure:
    """Steps, where quantities are steps or samples or a share of them; epochs and shares of epochs stay epochs."""
    settings = blueprint.stages[stage]
    batch = settings.batch or blueprint.settings.get("batch") or 1
    length = settings.length or blueprint.settings.get("length")

    def measure(quantity: Quantity) -> tuple[str, float]:
        if quantity.unit == "samples":
            return "steps", quantity.value / batch
        if quantity.unit == "percent":
            if length is None or length.unit == "percent":
                return "percent", quantity.value
            unit, whole = measure(length)
            return unit, whole * quantity.value / 100
        return quantity.unit, quantity.value

    return measure


def followed(blueprint: CheckedBlueprint, stage: str) -> list[Followed]:
    """The schedules of a stage: rates, weights and settings of its losses, decays of teachers; each param once."""
    by_place: dict[object, Followed] = {}
    for scheduled in (*_rates(blueprint, stage), *_of_losses(blueprint, stage), *_decays(blueprint)):
        by_place.setdefault(scheduled.span or scheduled.what, scheduled)
    return list(by_place.values())


def _rates(blueprint: CheckedBlueprint, stage: str) -> Iterator[Followed]:
    optimizer = blueprint.stages[stage].optimizer
    path = ("stages", stage, "optimizer") if optimizer is not None else ("optimizer",)
    optimizer = optimizer or blueprint.optimizer
    entry = blueprint.document.at(*path)
    if optimizer is None or entry is None:
        return
    if isinstance(optimizer.lr, Schedule):
        own = entry.value.entry("lr") if isinstance(entry.value, Mapping) else None
        yield Followed("the learning rate", optimizer.lr, _place(blueprint, own or entry))
    for rule in optimizer.rules:
        if isinstance(rule.lr, Schedule):
            yield Followed(f"the learning rate of {', '.join(rule.match)}", rule.lr, entry.key.span)


def _of_losses(blueprint: CheckedBlueprint, stage: str) -> Iterator[Followed]:
    active = [blueprint.losses[name] for name in blueprint.stages[stage].losses if name in blueprint.losses]
    for loss in active:
        if isinstance(loss.weight, ParamRef):
            yield from _param(blueprint, loss.weight.name, f"the weight of `{loss.name}`")
    for call in blueprint.fragment(Ref(loss.call) for loss in active):
        for name, arg in call.args:
            if isinstance(arg, ParamRef):
                what = f"`{name}` of `{call.target}`"
                yield from _param(blueprint, arg.name, what)


def _param(blueprint: CheckedBlueprint, name: str, what: str) -> Iterator[Followed]:
    value, entry = blueprint.params.get(name), blueprint.document.params.entry(name)
    if isinstance(value, Schedule):
        yield Followed(f"${name} ({what})", value, None if entry is None else entry.value.span)


def _decays(blueprint: CheckedBlueprint) -> Iterator[Followed]:
    for name, teacher in blueprint.teachers.items():
        entry = blueprint.document.at("teachers", name, "decay")
        if isinstance(teacher.decay, Schedule):
            yield Followed(f"the decay of `{name}`", teacher.decay, None if entry is None else _place(blueprint, entry))


def _place(blueprint: CheckedBlueprint, entry: Entry) -> Span:
    """Find where a value is written: that of a param, where the value is `$name`."""
    if isinstance(entry.value, Scalar) and entry.value.text.startswith("$"):
        param = blueprint.document.params.entry(entry.value.text[1:])
        return entry.value.span if param is None else param.value.span
    return entry.value.span
