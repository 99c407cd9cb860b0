"""A blueprint that has been checked: what everyone who compiles, trains or reports reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.inputs import Input
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.blueprint.sections import Optimizer, Stage, Start, Teacher
from compose_vlp.errors import Span
from compose_vlp.graph.kinds import AuxiliaryLoss, Kind
from compose_vlp.graph.plan import Call, ParamRef, Plan, Ref
from compose_vlp.graph.types import ValueType
from compose_vlp.readable import several, summary

Form = Literal["value", "generate", "rank", "relevance"]


@dataclass(frozen=True)
class ResolvedComponent:
    """A component with its final configuration, inferred sizes included.

    `share` maps its parts (or `*`) to `owner`, `owner.part` or `own`; `inferred` are the settings that follow from the
    graph, with the value; `measures` what the values that they follow from call that size.
    """

    name: str
    kind: Kind
    config: Any
    share: Mapping[str, str]
    span: Span
    inferred: Mapping[str, int] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """How many layers look at its context; 0 where it has no such layers."""
        name = self.kind.traits.layers
        return int(getattr(self.config, name) or 0) if name else 0


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter: what it puts in the place of the linear maps that `match` names and `but` does not.

    `places` are those of its patterns in the blueprint, `settings` those of the values that are written.
    """

    name: str
    kind: Kind
    config: Any
    match: tuple[str, ...]
    but: tuple[str, ...]
    span: Span
    places: Mapping[str, Span] = field(default_factory=dict)
    settings: Mapping[str, Span] = field(default_factory=dict)


@dataclass(frozen=True)
class LossEntry:
    """A loss: the call that computes it, and what it is multiplied with. The constant 0 makes it inactive."""

    name: str
    kind: Kind
    config: Any
    call: str
    weight: float | ParamRef
    span: Span

    @property
    def active(self) -> bool:
        return self.weight != 0


@dataclass(frozen=True)
class OutputEntry:
    """Something one may ask of the finished model.

    form `value`: `ref` is the value. `generate`: `ref` are logits of the text `over`. `rank`: likewise, among the texts
    of the input `among`. `relevance`: `ref` is a score, `to` the value whose positions are weighed. `settings` is the
    typed entry. `stored` are the values that read one input only, from which the output can be computed again (the
    towers' results that re-ranking keeps), by input.
    """

    name: str
    form: Form
    ref: Ref
    span: Span
    over: str | None = None
    among: str | None = None
    to: Ref | None = None
    settings: Any = None
    stored: Mapping[str, tuple[Ref, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckedBlueprint:
    """A blueprint without mistakes.

    `plan` holds the calls of all losses, outputs and graph entries, each typed; `values` the values of the graph
    entries by name. `variants` are the blueprints of the stages that `set` something. `notes` are remarks, no mistakes.
    """

    document: Document
    components: Mapping[str, ResolvedComponent]
    functions: Mapping[str, Kind]
    inputs: Mapping[str, Input]
    params: Mapping[str, Any]
    teachers: Mapping[str, Teacher]
    plan: Plan
    values: Mapping[str, Ref]
    losses: Mapping[str, LossEntry]
    outputs: Mapping[str, OutputEntry]
    stages: Mapping[str, Stage]
    start: tuple[Start, ...] = ()
    optimizer: Optimizer | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    variants: Mapping[str, CheckedBlueprint] = field(default_factory=dict)
    adapters: Mapping[str, AdapterEntry] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = {"component": self.components, "loss": self.losses, "output": self.outputs, "stage": self.stages}
        return summary("CheckedBlueprint", self.name, *(several(len(part), noun) for noun, part in parts.items()))

    def _repr_html_(self) -> str:
        """Show its parts in a notebook, as tables; the graph is shown by the `Blueprint` and by the `Run`."""
        from compose_vlp.pages import join, table, tag

        components = [
            (name, part.kind.name, ", ".join(f"{key}={size}" for key, size in part.inferred.items()))
            for name, part in self.components.items()
        ]
        losses = [
            (name, loss.kind.name, f"${loss.weight.name}" if isinstance(loss.weight, ParamRef) else f"{loss.weight:g}")
            for name, loss in self.losses.items()
        ]
        outputs = [(name, output.form) for name, output in self.outputs.items()]
        stages = [(name, ", ".join(stage.losses)) for name, stage in self.stages.items()]
        return join(
            [
                tag("p", tag("b", self.name), " ", self.document.text("title")),
                table(("component", "kind", "inferred"), components),
                table(("loss", "kind", "weight"), losses),
                table(("output", "form"), outputs),
                table(("stage", "losses"), stages),
            ]
        )

    def of_stage(self, stage: str) -> CheckedBlueprint:
        """The blueprint as a stage runs it: with what the stage `set`s, on the same parameters."""
        return self.variants.get(stage, self)

    @property
    def name(self) -> str:
        return self.document.name

    @cached_property
    def calls(self) -> Mapping[str, Call]:
        return self.plan.by_id()

    def type_of(self, ref: Ref) -> ValueType:
        """The type of any value of the plan."""
        return self.calls[ref.call].type.at(ref.path)

    def fragment(self, refs: Iterable[Ref]) -> tuple[Call, ...]:
        """The calls that these values need, inputs included, in the plan's order."""
        return fragment(self.plan, refs)

    @cached_property
    def training(self) -> tuple[Call, ...]:
        """The calls that all active losses need together."""
        return self.fragment(Ref(loss.call) for loss in self.losses.values() if loss.active)

    def reached_components(self, refs: Iterable[Ref]) -> frozenset[str]:
        """The components that these values call, and those from which they share parts."""
        reached = {call.target for call in self.fragment(refs) if call.role == "component"}
        waiting = list(reached)
        while waiting:
            for source in self.components[waiting.pop()].share.values():
                owner = source.partition(".")[0]
                if source != "own" and owner not in reached:
                    reached.add(owner)
                    waiting.append(owner)
        return frozenset(reached)

    @cached_property
    def auxiliary(self) -> Mapping[str, tuple[str, AuxiliaryLoss]]:
        """The losses that components have of their own, with the component, by name: `vision.ffn.balance`.

        One is part of a stage where the stage trains the component, and its other losses call it.
        """
        return {
            f"{name}.{loss.weight_path}": (name, loss)
            for name, part in self.components.items()
            if part.kind.own_losses is not None
            for loss in part.kind.own_losses(part.config)
        }

    def weight_of(self, loss: str) -> float | ParamRef:
        """Give the weight of a loss, auxiliary ones included."""
        return self.losses[loss].weight if loss in self.losses else self.auxiliary[loss][1].weight

    @cached_property
    def unread_components(self) -> frozenset[str]:
        """Components of the shared vocabulary that no loss and no output calls, whatever the stage."""
        losses = [Ref(loss.call) for loss in self.losses.values()]
        outputs = self.outputs.values()
        asked = [ref for output in outputs for ref in (output.ref, output.to) if ref is not None]
        return frozenset(self.components) - self.reached_components([*losses, *asked])

    def constants_and_starts(self) -> dict[str, float]:
        """Every numeric param's value at the first step of a stage."""
        numbers = {}
        for name, value in self.params.items():
            if isinstance(value, Schedule):
                numbers[name] = value.first
            elif isinstance(value, int | float):
                numbers[name] = float(value)
        return numbers


def fragment(plan: Plan, refs: Iterable[Ref]) -> tuple[Call, ...]:
    """The calls that these values need, in the plan's order."""
    return needed_calls(plan.by_id(), refs)


def needed_calls(calls: Mapping[str, Call], refs: Iterable[Ref]) -> tuple[Call, ...]:
    """The calls that these values need, of calls by name, in their order."""
    needed: set[str] = set()
    waiting = [ref.call for ref in refs]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [ref.call for ref in calls[name].refs()]
    return tuple(call for name, call in calls.items() if name in needed)
