"""From a checked blueprint to a diagram: one box for each call, loss and output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.graph.checking.trainings import frozen_components
from compose_vlp.graph.graph import CheckedBlueprint, OutputEntry
from compose_vlp.graph.kinds import Kind, Port
from compose_vlp.graph.plan import Arg, Call, Constant, ParamRef, Ref
from compose_vlp.graph.words import type_words
from compose_vlp.picture.details import details_of
from compose_vlp.picture.diagram import Arrow, Box, Diagram, Family
from compose_vlp.readable import count

FOLDERS: Final[Mapping[str, Family]] = {
    "encoders": "tower",
    "experts": "tower",
    "fusers": "tower",
    "decoders": "tower",
    "poolers": "head",
    "heads": "head",
    "teachers": "choice",
    "miners": "choice",
    "maskers": "choice",
}


@dataclass(frozen=True)
class Numbers:
    """What a build knows: parameters by component, facts to stand beside the title, and of each adapted component how
    many of its linear maps which adapter is for."""

    parameters: Mapping[str, int] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()
    adapted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def diagram_of(checked: CheckedBlueprint, numbers: Numbers | None = None) -> Diagram:
    """Draw the whole graph: losses and outputs with all that they need, and what nothing needs, marked as pruned."""
    return _Drawing(checked, numbers or Numbers()).diagram()


class _Drawing:
    def __init__(self, checked: CheckedBlueprint, numbers: Numbers) -> None:
        self.checked = checked
        self.numbers = numbers
        self.total = max(1, sum(numbers.parameters.values()))
        self.names = {ref.call: name for name, ref in checked.values.items() if not ref.path}
        self.losses = {loss.call: loss for loss in checked.losses.values()}
        self.frozen = frozen_components(checked)
        ends = [Ref(loss.call) for loss in checked.losses.values() if loss.active]
        ends += [ref for output in checked.outputs.values() for ref in _asked(output)]
        self.needed = {call.id for call in checked.fragment(ends)}

    def diagram(self) -> Diagram:
        document = self.checked.document
        calls = self.checked.plan.calls
        boxes = [*(self.box(call) for call in calls), *map(self.output, self.checked.outputs.values())]
        arrows = [arrow for call in calls for arrow in self.arrows(call)]
        arrows += [arrow for output in self.checked.outputs.values() for arrow in self.output_arrows(output)]
        for name, (component, loss) in self.checked.auxiliary.items():
            read = [
                c.id for c in self.checked.training if c.target == component and c.role == "component" and not c.world
            ]
            if read:
                title = f"auxiliary:{name}"
                boxes.append(Box(id=title, family="loss", title=name, notes=(f"{loss.kind} × {loss.weight:g}",)))
                arrows += [Arrow(call, title) for call in read]
        return Diagram(
            title=self.checked.name,
            subtitle=document.text("title"),
            boxes=tuple(boxes),
            arrows=tuple(arrows),
            facts=self.numbers.facts,
            paper=document.text("paper"),
        )

    # --- boxes --------------------------------------------------------------------------------------------------

    def box(self, call: Call) -> Box:
        component = self.checked.components.get(call.target) if call.role == "component" else None
        parameters = self.numbers.parameters.get(call.target, 0) if component else 0
        return Box(
            id=call.id,
            family=self.family(call),
            title=self.title(call),
            notes=tuple(self.notes(call, parameters)),
            name="" if call.role in ("input", "loss") else self.names.get(call.id, ""),
            carries="" if call.role == "loss" else type_words(call.type),
            small=call.role in ("function", "read", "index"),
            world=call.world or "",
            frozen=component is not None and not call.world and call.target in self.frozen,
            pruned=call.id not in self.needed,
            share=parameters / self.total,
            twin=call.target if component else "",
            details=details_of(self.checked, call, parameters, self.numbers.adapted.get(call.target, {})),
        )

    def title(self, call: Call) -> str:
        if call.role == "read":
            return f".{call.target}"
        if call.role == "index":
            x, index = call.arg("x"), call.arg("index")
            known = isinstance(x, Ref) and (x.call in self.names or x.call in self.checked.inputs)
            return f"{x if known else ''}[{index}]"
        return call.target

    def family(self, call: Call) -> Family:
        if call.role == "component":
            return family_of(self.checked.components[call.target].kind)
        return "input" if call.role == "input" else "loss" if call.role == "loss" else "function"

    def notes(self, call: Call, parameters: int) -> Iterator[str]:
        if call.role == "component":
            kind = self.checked.components[call.target].kind.name
            yield f"{kind} · {count(parameters)}" if parameters else kind
        elif call.role == "loss":
            loss = self.losses[call.id]
            yield f"{loss.kind.name} × {_constant(self.checked, loss.weight)}"
        for port, arg in call.args:
            if isinstance(arg, Constant):
                yield f"{port} = {arg.value}"
            elif isinstance(arg, ParamRef):
                yield f"{port} = {_constant(self.checked, arg)}"

    def output(self, output: OutputEntry) -> Box:
        form = {"generate": f"generate {output.over}", "rank": f"rank {output.over} among {output.among}"}
        notes = () if output.form == "value" else (form.get(output.form, output.form),)
        return Box(id=f"output:{output.name}", family="output", title=output.name, notes=notes)

    # --- arrows -------------------------------------------------------------------------------------------------

    def arrows(self, call: Call) -> Iterator[Arrow]:
        named = sum(len([*_refs(arg)]) for _, arg in call.args) > 1 and call.role != "index"
        ports = self.ports(call)
        for name, arg in call.args:
            port = ports.get(name)
            for ref in _refs(arg):
                field_ = ".".join(ref.path)
                yield Arrow(ref.call, call.id, name if named else "", field_, port is not None and port.detached)

    def ports(self, call: Call) -> Mapping[str, Port]:
        if call.role == "component":
            return self.checked.components[call.target].kind.ports
        if call.role == "function":
            return self.checked.functions[call.target].ports
        return self.losses[call.id].kind.ports if call.role == "loss" else {}

    def output_arrows(self, output: OutputEntry) -> Iterator[Arrow]:
        for port, ref in zip(("", "to"), _asked(output), strict=False):
            yield Arrow(ref.call, f"output:{output.name}", port, ".".join(ref.path))


def family_of(kind: Kind) -> Family:
    """By the folder that a built-in kind stands in; of another by what it does."""
    parts = kind.source.split(".")
    folder = parts[2] if kind.source.startswith("compose_vlp.components.") else ""
    if folder in FOLDERS:
        return FOLDERS[folder]
    return "choice" if kind.traits.draws == "choice" else "tower"


def _asked(output: OutputEntry) -> list[Ref]:
    return [output.ref, *([output.to] if output.to else [])]


def _refs(arg: Arg) -> Iterator[Ref]:
    if isinstance(arg, Ref):
        yield arg
    elif isinstance(arg, tuple):
        for item in arg:
            yield from _refs(item)


def _constant(checked: CheckedBlueprint, value: float | ParamRef) -> str:
    if not isinstance(value, ParamRef):
        return f"{value:g}"
    param = checked.params.get(value.name)
    return f"${value.name}" if isinstance(param, Schedule) or param is None else f"${value.name} ({param})"
