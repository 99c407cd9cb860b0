"""From a checked blueprint to a program: choose what is wanted, run the passes, write the source, load it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from compose_vlp.compiler.adapting import adapted_maps, is_silent, with_adapters
from compose_vlp.compiler.auxiliary_losses import with_auxiliary
from compose_vlp.compiler.model import build
from compose_vlp.compiler.noise import may_draw
from compose_vlp.compiler.passes import Applied, PassContext, run_passes
from compose_vlp.compiler.promises import holding, holding_adapter
from compose_vlp.compiler.sharing import keys_owner
from compose_vlp.compiler.source import Program, load_program, write_program
from compose_vlp.graph.graph import AdapterEntry, CheckedBlueprint, fragment
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Call, Plan, Ref
from compose_vlp.graph.types import TextType
from compose_vlp.readable import several, summary


@dataclass(frozen=True)
class Compiled:
    """A program and how it came about. `before` is the plan as the blueprint has it, `plan` what runs.

    `kinds` are the kinds of the calls of `before` by their ids, with the promises that hold.
    """

    name: str
    before: Plan
    plan: Plan
    passes: tuple[Applied, ...]
    source: str
    run: Program
    kinds: Mapping[str, Kind]

    def __repr__(self) -> str:
        facts = several(self.plan.counted(), "call"), several(len(self.passes), "pass")
        return summary("Compiled", self.name, *facts)

    def _repr_html_(self) -> str:
        """Show in a notebook what the passes did, and the program."""
        from compose_vlp.pages import join, table, tag

        passes = [(done.name, done.calls_before, done.calls_after, done.note) for done in self.passes]
        title = tag("p", tag("b", self.name))
        done = table(("pass", "calls before", "after", "note"), passes)
        return join([title, done, tag("details", tag("summary", "program"), tag("pre", self.source))])


def kind_of(blueprint: CheckedBlueprint, call: Call) -> Kind | None:
    """The kind behind a call; None for inputs, reads, indices and selections."""
    if call.role == "component":
        return blueprint.components[call.target].kind
    if call.role == "loss":
        return blueprint.losses[call.target].kind
    return blueprint.functions[call.target] if call.role == "function" else None


def config_of(blueprint: CheckedBlueprint, call: Call) -> Any:
    """The settings of a component or a loss; None for whatever has none."""
    if call.role == "component":
        return blueprint.components[call.target].config
    return blueprint.losses[call.target].config if call.role == "loss" else None


def kinds_that_hold(blueprint: CheckedBlueprint, plan: Plan) -> tuple[dict[str, Kind], dict[str, str]]:
    """The kinds of a plan's calls by their ids, with the promises that hold; and of which targets not all do, and why.

    Raises:
        UserError: a plugin breaks a promise, or gives what it is not annotated to give.
    """
    kinds: dict[str, Kind] = {}
    doubts: dict[str, str] = {}
    adapters = adapters_of(blueprint)
    for call in plan.calls:
        kind = kind_of(blueprint, call)
        if kind is not None:
            held, doubt = holding(kind, config_of(blueprint, call), call, plan)
            part = f"losses.{call.target}" if call.role == "loss" else call.target
            kinds[call.id] = with_adapters(held, adapters.get(part, ()))
            doubts |= {call.target: doubt} if doubt else {}
    return kinds, doubts


def adapters_of(blueprint: CheckedBlueprint) -> dict[str, list[AdapterEntry]]:
    """The adapters within each part of a model that do not promise all that a component may, by the part's name.

    Raises:
        UserError: a plugin's adapter breaks a promise.
    """
    held = {name: holding_adapter(adapter) for name, adapter in blueprint.adapters.items()}
    loud = {name: adapter for name, adapter in held.items() if not is_silent(adapter)}
    if not loud:
        return {}
    parts = build(blueprint, "meta").parts()
    names = {
        part: {linear_map.adapter_name for linear_map in adapted_maps(module).values()}
        for part, module in parts.items()
    }
    return {part: [loud[name] for name in sorted(within & loud.keys())] for part, within in names.items()}


def compile_plan(
    blueprint: CheckedBlueprint,
    name: str,
    results: Mapping[str, Ref],
    *,
    trainable: Callable[[str], bool] = lambda _: True,
    without: Collection[str] = (),
    title: str = "",
    trains: bool = False,
) -> Compiled:
    """The program that computes these results; `trainable(component)` says what the stage trains.

    Where it `trains`, the auxiliary losses of the components that the wanted values call are wanted, too.

    Raises:
        UserError: a plugin breaks a promise, or gives what it is not annotated to give.
    """
    whole = dataclasses.replace(blueprint.plan, calls=_read(blueprint, results), results=dict(results), notes=())
    if trains:
        whole = with_auxiliary(whole, blueprint.auxiliary, trainable)
    kinds, doubts = kinds_that_hold(blueprint, whole)
    for call in whole.calls:
        if call.role == "component" and call.id in kinds and (call.world is not None or not trainable(call.target)):
            kinds[call.id] = dataclasses.replace(kinds[call.id], traits=kinds[call.id].traits.frozen())
    whole = _without_idle_effects(whole, kinds)
    context = PassContext(
        kind_of=lambda call: kinds.get(call.id),
        doubts=doubts,
        trainable=lambda call: call.world is None and trainable(call.target),
        draws=lambda call: call.id in kinds and may_draw(kinds[call.id], config_of(blueprint, call)),
        keys_owner=lambda call: keys_owner(call.target, blueprint.components),
    )
    plan, applied = run_passes(whole, context, without)
    source = write_program(
        plan,
        name,
        title=title or f"`{name}` of {blueprint.name}.",
        tokenizers=tokenizers_of(blueprint, plan),
        choices=choices_of(blueprint, plan),
        open_ports=open_ports_of(blueprint),
    )
    run = load_program(source, name, functions_of(blueprint, plan))
    return Compiled(name, whole, plan, applied, source, run, kinds)


def _read(blueprint: CheckedBlueprint, results: Mapping[str, Ref]) -> tuple[Call, ...]:
    """The calls that something reads: these values, a loss or an output.

    Entries of the vocabulary that papers share may stay unread, and then need not fit (one picture, where the task's
    tower looks at two).
    """
    losses = (Ref(loss.call) for loss in blueprint.losses.values())
    outputs = (output.ref for output in blueprint.outputs.values())
    known = blueprint.plan.by_id()  # a plan may be a part of the blueprint's, for one output
    return blueprint.fragment([*results.values(), *(ref for ref in (*losses, *outputs) if ref.call in known)])


def _without_idle_effects(plan: Plan, kinds: Mapping[str, Kind]) -> Plan:
    """The plan but calls that change a state and that nothing wanted reads, and what reads these.

    So a program has the same effects with `prune` and without it.
    """
    needed = {call.id for call in fragment(plan, plan.results.values())}
    gone: set[str] = set()
    for call in plan.calls:
        changes = call.id in kinds and kinds[call.id].traits.state != "none"
        if call.id not in needed and (changes or any(ref.call in gone for ref in call.refs())):
            gone.add(call.id)
    return plan.replace(call for call in plan.calls if call.id not in gone)


def functions_of(blueprint: CheckedBlueprint, plan: Plan) -> dict[str, object]:
    """The Python functions that a plan calls."""
    return {c.target: blueprint.functions[c.target].implementation for c in plan.calls if c.role == "function"}


def choices_of(blueprint: CheckedBlueprint, plan: Plan) -> frozenset[str]:
    """The calls of maskers and miners, whose draws a replay may hand in."""
    kinds = ((call.id, kind_of(blueprint, call)) for call in plan.calls if call.role == "component")
    return frozenset(call for call, kind in kinds if kind is not None and kind.traits.draws == "choice")


def open_ports_of(blueprint: CheckedBlueprint) -> frozenset[str]:
    """The functions that take values under any names."""
    kinds = blueprint.functions.items()
    return frozenset(name for name, kind in kinds if any(port.open for port in kind.ports.values()))


def tokenizers_of(blueprint: CheckedBlueprint, plan: Plan) -> dict[str, str]:
    """The calls that need their text's tokenizer (to find a token by name), and which it is."""
    tokenizers = {}
    for call in plan.calls:
        kind = kind_of(blueprint, call) if call.role in ("function", "component") else None
        if kind is not None and "tokenizer" in _runtime_arguments(kind):
            tokenizers[call.id] = _text_of(call, plan).tokenizer
    return tokenizers


def _runtime_arguments(kind: Kind) -> Collection[str]:
    implementation: Any = kind.implementation
    function = implementation if kind.category == "function" else implementation.forward
    return inspect.signature(function).parameters.keys()


def _text_of(call: Call, plan: Plan) -> TextType:
    """The text that a call reads first."""
    calls = plan.by_id()
    for ref in call.refs():
        kind = calls[ref.call].type.at(ref.path)
        if isinstance(kind, TextType):
            return kind
    raise AssertionError(f"{call.id} reads no text, and asks for its tokenizer")


def compile_stage(
    blueprint: CheckedBlueprint,
    stage: str,
    *,
    trainable: Callable[[str], bool] | None = None,
    without: Collection[str] = (),
) -> Compiled:
    """The training program of a stage: its active losses and the auxiliary ones, with what the stage `set`s."""
    blueprint = blueprint.of_stage(stage)
    names = blueprint.stages[stage].losses
    losses = {name: Ref(blueprint.losses[name].call) for name in names if blueprint.losses[name].active}
    title = f"Losses of stage `{stage}` of {blueprint.name}: {', '.join(losses)}"
    trained = trainable or (lambda _: True)
    return compile_plan(blueprint, stage, losses, trainable=trained, without=without, title=title, trains=True)


def compile_outputs(blueprint: CheckedBlueprint, names: Collection[str], *, without: Collection[str] = ()) -> Compiled:
    """One program for several outputs that are plain values."""
    results = {name: blueprint.outputs[name].ref for name in names}
    return compile_plan(blueprint, "outputs", results, trainable=lambda _: False, without=without)
