"""What one process of a stage holds, and which components it computes again in the backward so that it holds less."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any

from compose_vlp.blueprint.scalars import Memory
from compose_vlp.blueprint.sections import Distribute, EngineName
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.memory_plan import (
    MACHINE,
    SPARE,
    MemoryPlan,
    gathered_bytes,
    memory_plan,
    pieces_of_model,
    pieces_within,
)
from compose_vlp.compiler.model import Model
from compose_vlp.compiler.recompute import repeated_layers
from compose_vlp.compiler.report import NotCounted, StepCost, held_bytes, measure_step, trained_parameters
from compose_vlp.compiler.units import Whole, whole_at_once
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Plan
from compose_vlp.readable import several, storage
from compose_vlp.runtime.stage import (
    batch_of_stage,
    engine_of_stage,
    precision_of_stage,
    recompute_setting,
    stage_model,
)


@dataclass(frozen=True)
class Recompute:
    """The components whose layers run again in a stage's backward, and why these.

    `plan` is what a process holds with them, where a `budget` chose them.
    """

    names: tuple[str, ...] = ()
    reason: str = ""
    budget: Memory | None = None
    plan: MemoryPlan | None = None

    def text(self, model: Model) -> str:
        """Say it in one line."""
        parts = model.parts()
        layers = {name: sum(1 for _ in repeated_layers(parts[name])) for name in self.names}
        listed = ", ".join(f"{name} ({several(number, 'layer')})" for name, number in layers.items()) or "nothing"
        return f"computed again in the backward: {listed}, {self.reason}"

    def as_json(self) -> dict[str, Any]:
        """For reports; empty where nothing is said of it."""
        return {"components": list(self.names), "reason": self.reason} if self.reason else {}

    def refuse_excess(self) -> None:
        """Refuse a budget that is not kept whatever is recomputed.

        Raises:
            UserError: with the least that would do.
        """
        if self.plan is None or self.budget is None or self.plan.total <= self.budget.bytes:
            return
        plan = self.plan
        raise UserError(
            f"stage {plan.stage!r} holds {storage(plan.total)} in each process at {several(plan.rows, 'record')} at a "
            f"time in {plan.precision}, even where all layers are computed again; `recompute: {self.budget}` allows "
            "less",
            hints=[f"`recompute: {_rounded_up(plan.total)}`", *pieces_within(plan, self.budget.bytes)],
        )


def recompute_of_stage(
    blueprint: CheckedBlueprint,
    name: str,
    *,
    processes: int = 1,
    distribute: EngineName | None = None,
    without: Collection[str] = (),
) -> Recompute:
    """Choose what a stage computes again, as `recompute` says; names at the top that it does not train are passed over.

    Raises:
        UserError: by an amount of memory, and what a step keeps cannot be counted.
    """
    setting = recompute_setting(blueprint, name)
    if isinstance(setting, Memory):
        rows = max(batch_of_stage(blueprint, name) // (processes * blueprint.stages[name].accumulate), 1)
        how = engine_of_stage(blueprint, name, processes, distribute)
        return StageMemory(blueprint, name, how, world=processes, rows=rows, without=without).within(setting)
    if not setting:
        return Recompute()
    possible = recomputable(blueprint, name)
    return Recompute(tuple(each for each in setting if each in possible), "as `recompute` names them")


def recomputable(blueprint: CheckedBlueprint, stage: str) -> tuple[str, ...]:
    """List the components of which a stage can compute layers again: they have some, and run with gradients."""
    model, trained = stage_model(blueprint, stage)
    plan = compile_stage(blueprint, stage, trainable=trained).plan
    return tuple(name for name in with_layers(blueprint.of_stage(stage), model) if _with_gradients(plan, name))


def with_layers(blueprint: CheckedBlueprint, model: Model) -> tuple[str, ...]:
    """List the components with layers that may run a second time: none keeps a state beside its buffers."""
    return tuple(
        name
        for name, module in model.components.named_children()
        if any(True for _ in repeated_layers(module))
        and blueprint.components[name].kind.traits.state not in ("kept", "learns")
    )


def _with_gradients(plan: Plan, component: str) -> bool:
    return any(
        call.role == "component" and call.target == component and call.world is None and not call.no_grad
        for call in plan.calls
    )


class StageMemory:
    """Counts what a process of a stage holds at `rows` records at a time, under any engine, whatever is recomputed."""

    def __init__(
        self,
        blueprint: CheckedBlueprint,
        name: str,
        how: Distribute,
        *,
        world: int,
        rows: int,
        without: Collection[str] = (),
        card: int | None = None,
    ) -> None:
        self.name, self.how, self.accumulate = name, how, blueprint.stages[name].accumulate
        self.world, self.rows, self.card = world, rows, card
        self.own = blueprint.of_stage(name)
        self.model, trained = stage_model(blueprint, name)
        self.compiled: Compiled = compile_stage(blueprint, name, trainable=trained, without=without)
        self.precision = precision_of_stage(blueprint, name)
        self._costs: dict[tuple[tuple[str, ...], bool], StepCost] = {}

    @cached_property
    def whole(self) -> Whole:
        """What a process that has a piece of the model holds whole for a moment."""
        trained = trained_parameters(self.model, self.compiled.plan)
        return whole_at_once(self.model, trained, half=self.precision == "bf16", stay=not self.how.reshard)

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """The components that may be recomputed, those first that save most for a FLOP."""
        names = [name for name in with_layers(self.own, self.model) if _with_gradients(self.compiled.plan, name)]
        plain = self.cost(())

        def price(name: str) -> float:
            alone = self.cost((name,))
            return (alone.flops - plain.flops) / max(plain.kept - alone.kept, 1)

        return tuple(sorted(names, key=price))

    def cost(self, names: Sequence[str], *, divided: bool = False) -> StepCost:
        """Measure a step in which these are recomputed; once. Layers of a divided model are gathered in its precision.

        Raises:
            NotCounted: the model cannot be run without numbers.
        """
        chosen, divided = tuple(sorted(names)), divided and self.precision != "fp32"
        if (chosen, divided) not in self._costs:
            halved = self.whole.layers if divided else ()
            self._costs[chosen, divided] = measure_step(
                self.own, self.model, self.compiled, self.rows, chosen, self.precision, halved=halved
            )
        return self._costs[chosen, divided]

    def plan(self, engine: str, names: Sequence[str]) -> MemoryPlan:
        """Count one process under an engine; without activations where these cannot be counted."""
        pieces = pieces_of_model(engine, self.world, self.how.shards or MACHINE)
        try:
            cost = self.cost(names, divided=pieces > 1)
        except NotCounted:
            cost = None
        held = held_bytes(self.model, self.compiled.plan, cost)
        if pieces > 1:
            gradients, throughout = held["gradients"] or 0, self.accumulate > 1
            held["whole_layers"] = self.whole.total
            held["backward"] = cost and self.whole.most(cost.backward, pieces, gradients, throughout=throughout)
        types = [value for call in self.compiled.plan.calls for value in (call.type, *call.type.members().values())]
        return memory_plan(
            held,
            gathered_bytes([value.shape() for value in types], self.rows, self.world),
            engine=engine,
            world=self.world,
            shards=self.how.shards or MACHINE,
            rows=self.rows,
            card=self.card,
            stage=self.name,
            accumulate=self.accumulate,
            precision=self.precision,
            recompute=tuple(name for name, _ in self.model.components.named_children() if name in names),
        )

    def least(self, engine: str, limit: float) -> MemoryPlan:
        """Recompute as little as holds the limit, or all where nothing does.

        Components are taken one after the other, the cheapest first, and given back where it holds without them.

        Raises:
            UserError: what a step keeps cannot be counted.
        """
        try:
            self.cost(())
        except NotCounted as error:
            raise UserError(
                f"stage {self.name!r}: what a step keeps cannot be counted, so no layers can be chosen by memory: "
                f"{error}",
                hints=["`recompute` may name components instead"],
            ) from error
        chosen: list[str] = []
        for name in self.candidates:
            if self.plan(engine, chosen).total <= limit:
                break
            chosen.append(name)
        if self.plan(engine, chosen).total <= limit:
            for name in tuple(chosen):
                fewer = [other for other in chosen if other != name]
                if self.plan(engine, fewer).total <= limit:
                    chosen = fewer
        return self.plan(engine, chosen)

    def fitting(self, plan: MemoryPlan) -> MemoryPlan:
        """Give a plan beside which one that recomputes more stands, where the card does not hold it."""
        if plan.fits is not False or plan.card is None:
            return plan
        smaller = self.least(plan.engine, plan.card * (1 - SPARE))
        return replace(plan, smaller=smaller) if smaller.total < plan.total else plan

    def within(self, budget: Memory) -> Recompute:
        """Recompute as little as keeps a process within the budget, or all where nothing does.

        Raises:
            UserError: what a step keeps cannot be counted.
        """
        before, after = self.plan(self.how.use, ()), self.least(self.how.use, budget.bytes)
        at = f"at {several(self.rows, 'record')} at a time in {self.precision}"
        reason = f"since a process holds {storage(before.total)} {at}, of the {budget} that it may"
        if after.total > budget.bytes:
            reason = f"and a process holds {storage(after.total)} {at} all the same, more than the {budget} that it may"
        elif after.recompute:
            reason = f"so that a process holds {storage(after.total)} {at}, of the {budget} that it may, and not "
            reason += storage(before.total)
        return Recompute(after.recompute, reason, budget, after)


def _rounded_up(size: int) -> str:
    """Bytes in units that `recompute` reads, not less than they are."""
    unit, letters = (10**9, "GB") if size >= 10**10 else (10**6, "MB")
    return f"{ceil(size / unit)} {letters}"
