"""A stage's program in pieces: gradients of a batch that does not fit, exact where its rows look at each other.

What mixes rows (similarities, a loss over the batch, a queue) needs all of them; what does not, runs piece by piece.
So a plan falls into three programs (gradient caching: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup"):

1. `first`, piece by piece without gradients: the values that the mixing part reads, and how many terms losses have;
2. `mixing`, once, on these values joined: the losses that mix rows, and the gradients of what they read;
3. `again`, piece by piece with gradients: the same values, which take the gradients of 2, and the losses of rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from compose_vlp.blueprint.inputs import LabelInput, TextInput
from compose_vlp.compiler.compile import choices_of, compile_stage, functions_of, open_ports_of, tokenizers_of
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.source import Program, load_program, write_program
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint, fragment
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Call, Plan, Ref
from compose_vlp.graph.types import (
    IndexType,
    LabelsType,
    LogitsType,
    MaskType,
    RecordType,
    SimilarityType,
    TextType,
    ValueType,
)

MERGING = ("batch",)
"""Passes that make one call over the rows of several: such rows are not those of a piece."""


@dataclass(frozen=True)
class Pieces:
    """The three programs, None where there is nothing to do.

    `kept` are the calls whose values `mixing` reads, under `@id`; `followed` those of them that take gradients.
    `terms` gives each loss of rows the key under which `first` lists its terms (positions), None where these are rows.
    """

    first: Program | None
    mixing: Program | None
    again: Program | None
    kept: tuple[str, ...]
    followed: tuple[str, ...]
    terms: Mapping[str, str | None]
    source: str


def compile_pieces(
    blueprint: CheckedBlueprint,
    stage: str,
    *,
    trainable: Callable[[str], bool] | None = None,
    without: Collection[str] = (),
) -> Pieces:
    """The programs of a stage that accumulates; arguments as those of `compile_stage`.

    Raises:
        UserError: the stage reads an input whose rows are not records of the batch.
    """
    left_out = {*without, *(name for name in MERGING if name in PASSES)}
    compiled = compile_stage(blueprint, stage, trainable=trainable, without=left_out)
    plan = compiled.plan
    blueprint = blueprint.of_stage(stage)
    _refuse_other_rows(blueprint, plan)
    mixed = _mixing(plan, compiled.kinds)
    row_losses = {name: ref for name, ref in plan.results.items() if ref.call not in mixed}
    kept = _kept(plan, mixed)
    followed = tuple(name for name in kept if not plan.by_id()[name].no_grad)
    counting = {name: call for name in row_losses if (call := _terms(blueprint, plan, name)) is not None}
    wider = plan.replace((*plan.calls, *counting.values()))
    first = {**_handed(kept), **{f"#{name}": Ref(call.id) for name, call in counting.items()}}
    again = {**_handed(followed), **row_losses}
    shared = _reached(wider, first) & _reached(wider, again)
    programs = {
        "first": _part(wider, first, shared),
        "mixing": _mixing_plan(plan, mixed, kept),
        "again": _part(wider, again, shared),
    }
    made = {name: _write(blueprint, part, stage, name) for name, part in programs.items() if part.results}
    return Pieces(
        **{name: made[name][1] if name in made else None for name in programs},
        kept=kept,
        followed=followed,
        terms={name: f"#{name}" if name in counting else None for name in row_losses},
        source="\n\n".join(source for source, _ in made.values()),
    )


def _refuse_other_rows(blueprint: CheckedBlueprint, plan: Plan) -> None:
    for call in plan.calls:
        settings = blueprint.inputs[call.target] if call.role == "input" else None
        several = isinstance(settings, TextInput | LabelInput) and settings.many
        if several or (isinstance(settings, TextInput) and settings.table is not None):
            raise UserError(
                f"`accumulate` cuts a batch by its records, and input {call.target!r} has rows of its own",
                span=call.span,
                hints=["leave `accumulate` out of stages whose losses read it"],
            )


def _mixing(plan: Plan, kinds: Mapping[str, Kind]) -> set[str]:
    """The calls that look at several rows or keep state, of which there is one a step, and all that follows."""
    mixed: set[str] = set()
    for call in plan.calls:
        kind = kinds.get(call.id)
        given = [name for name, _ in call.args]
        mixes = kind is not None and (kind.mixes(given) or kind.traits.state != "none")
        # rows of a similarity are independent of each other, and its columns are the rows of another value
        mixes = (
            mixes
            or call.role == "auxiliary"
            or (isinstance(call.type, SimilarityType | IndexType) and call.role != "select")
        )
        if mixes or any(ref.call in mixed for ref in call.refs()):
            mixed.add(call.id)
    readers = {ref.call: call.id for call in plan.calls if call.id in mixed for ref in call.refs()}
    for call in reversed(plan.calls):
        # what names places of the batch cannot be joined: it is computed where it is read
        if call.id in readers and (call.role == "select" or call.arg("at") is not None):
            mixed.add(call.id)
            readers |= {ref.call: call.id for ref in call.refs()}
    return mixed


def _kept(plan: Plan, mixed: Collection[str]) -> tuple[str, ...]:
    """The calls outside of the mixing part whose values it reads; inputs are there for all."""
    read = dict.fromkeys(ref.call for call in plan.calls if call.id in mixed for ref in call.refs())
    return tuple(name for name in read if name not in mixed and plan.by_id()[name].role != "input")


def _terms(blueprint: CheckedBlueprint, plan: Plan, loss: str) -> Call | None:
    """A call that lists the terms of a loss of rows without computing it; None where its terms are the rows."""
    if not blueprint.losses[loss].kind.traits.selects:
        return None
    call = plan.by_id()[plan.results[loss].call]
    source = _of_kind(MaskType, call, plan) or _of_kind(LabelsType, call, plan) or _text(call, plan)
    if source is None:
        raise UserError(
            f"`accumulate` cannot tell how many terms the loss {loss!r} has: it reads neither a mask nor labels nor "
            "the scores of a text",
            span=call.span,
        )
    return Call(f"{call.id}_terms", "select", loss, (("x", source),), IndexType(), span=call.span)


def _of_kind(kind: type[ValueType], loss: Call, plan: Plan) -> Ref | None:
    return next((ref for ref in loss.refs() if isinstance(plan.type_of(ref), kind)), None)


def _text(loss: Call, plan: Plan) -> Ref | None:
    """The text on which the loss's logits stand: the last one of that identity on the way to them."""
    for logits in loss.refs():
        kind = plan.type_of(logits)
        if isinstance(kind, LogitsType) and kind.text is not None:
            way = fragment(plan, [logits])
            texts = [ref for call in way for ref in _texts(call) if _root(plan, ref) == kind.text.root]
            return texts[-1] if texts else None
    return None


def _texts(call: Call) -> list[Ref]:
    members = call.type.members() if isinstance(call.type, RecordType) else {}
    inside = [Ref(call.id, (name,)) for name, kind in members.items() if isinstance(kind, TextType)]
    return [Ref(call.id)] if isinstance(call.type, TextType) else inside


def _root(plan: Plan, ref: Ref) -> str:
    kind = plan.type_of(ref)
    return kind.root if isinstance(kind, TextType) else ""


def _handed(names: Iterable[str]) -> dict[str, Ref]:
    return {f"@{name}": Ref(name) for name in names}


def _reached(plan: Plan, results: Mapping[str, Ref]) -> frozenset[str]:
    return frozenset(call.id for call in fragment(plan, results.values()))


def _part(plan: Plan, results: Mapping[str, Ref], shared: Collection[str]) -> Plan:
    """The calls for some values; those that both passes over a piece make come first, so that both draw alike."""
    calls = fragment(plan, results.values())
    ordered = sorted(calls, key=lambda call: call.id not in shared)
    return dataclasses.replace(plan, calls=tuple(ordered), results=dict(results))


def _mixing_plan(plan: Plan, mixed: Collection[str], kept: Collection[str]) -> Plan:
    losses = {name: ref for name, ref in plan.results.items() if ref.call in mixed}
    calls = (
        dataclasses.replace(c, role="input", target=f"@{c.id}", args=(), no_grad=False) if c.id in kept else c
        for c in plan.calls
        if c.id in kept or c.id in mixed or c.role == "input"
    )
    whole = dataclasses.replace(plan, calls=tuple(calls), results=losses)
    return whole.replace(fragment(whole, losses.values()))


def _write(blueprint: CheckedBlueprint, plan: Plan, stage: str, part: str) -> tuple[str, Program]:
    name = f"{stage}_{part}"
    source = write_program(
        plan,
        name,
        title=f"Stage `{stage}` of {blueprint.name} in pieces: {part}.",
        tokenizers=tokenizers_of(blueprint, plan),
        choices=choices_of(blueprint, plan),
        open_ports=open_ports_of(blueprint),
    )
    return source, load_program(source, name, functions_of(blueprint, plan))
