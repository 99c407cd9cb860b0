"""Which score of a model is explained: that of the blueprint's `relevance` output, or one found in its graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.blueprint.sections import Relevance
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint, OutputEntry
from compose_vlp.graph.plan import Call, Ref, refs_in
from compose_vlp.graph.types import LogitsType, SequenceType, TextType, ValueType
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.relevance import PATCHES

FOUND = "relevance"
"""The name of an output that the blueprint does not have."""


def relevance_of(asker: Asker, output: str | None = None) -> tuple[Asker, str]:
    """Choose a model's `relevance` output: the one named, the only one, or else one for the first score of the graph
    that words reach after looking at a picture's patches, through the middle layer.

    Raises:
        UserError: the output named is none, there are several, or nothing in the blueprint could be explained, and why.
    """
    blueprint = asker.blueprint
    known = [name for name, declared in blueprint.outputs.items() if declared.form == "relevance"]
    if output is not None and output not in known:
        raise UserError(
            f"output {output!r} of {blueprint.name} explains no score", hints=(f"outputs that do: {_said(known)}",)
        )
    if len(known) > 1 and output is None:
        raise UserError(f"several outputs of {blueprint.name} explain a score", hints=(f"choose: {_said(known)}",))
    if known:
        return asker, output or known[0]
    entry = next(_possible(blueprint), None)
    if entry is None:
        raise UserError(
            f"nothing of {blueprint.name} could be explained: {_reason(blueprint)}",
            hints=("maps are made of cross-attention from words to patches, as in albef and blip",),
        )
    added = dataclasses.replace(blueprint, outputs={**blueprint.outputs, FOUND: entry})
    return Asker(added, asker.model, asker.tokenizers, asker.device), FOUND


def _possible(blueprint: CheckedBlueprint) -> Iterator[OutputEntry]:
    """Outputs for the scores of rows in the graph's order, those that are drawn at random left out."""
    asked = blueprint.fragment(output.ref for output in blueprint.outputs.values())
    read = {call.id for call in (*blueprint.training, *asked)}
    for name, ref in blueprint.values.items():
        kind = blueprint.type_of(ref)
        if ref.call not in read:  # no loss taught it
            continue
        if not isinstance(kind, LogitsType) or kind.over_positions:
            continue
        way = blueprint.fragment([ref])
        if not _asks(blueprint, way) or any(_chooses(blueprint, call) for call in way):
            continue
        for call in way:
            to = next((context for context in _looked_at(call) if _has_patches(blueprint.type_of(context))), None)
            depth = blueprint.components[call.target].layers if to is not None else 0
            if to is not None and depth and _says(blueprint, call):
                layer = (depth - 1) // 2
                settings = Relevance(relevance=name, to=str(to), through=call.target, layer=layer)
                span = blueprint.components[call.target].span
                yield OutputEntry(FOUND, "relevance", ref, span, to=to, settings=settings)


def _asks(blueprint: CheckedBlueprint, way: tuple[Call, ...]) -> bool:
    """One picture and one text are all that it reads."""
    kinds = [type(blueprint.inputs.get(call.target)) for call in way if call.role == "input"]
    return kinds in ([ImageInput, TextInput], [TextInput, ImageInput])


def _chooses(blueprint: CheckedBlueprint, call: Call) -> bool:
    return call.role == "component" and blueprint.components[call.target].kind.traits.draws == "choice"


def _looked_at(call: Call) -> list[Ref]:
    if call.role != "component" or call.world is not None:
        return []
    return list(refs_in(call.arg("context") or ()))


def _has_patches(kind: ValueType) -> bool:
    return isinstance(kind, SequenceType) and kind.part(PATCHES) is not None


def _says(blueprint: CheckedBlueprint, call: Call) -> bool:
    """Tell whether what looks are words."""
    x = call.arg("x")
    kind = blueprint.type_of(x) if isinstance(x, Ref) else None
    return isinstance(kind, TextType) or (isinstance(kind, SequenceType) and any(part.text for part in kind.parts))


def _reason(blueprint: CheckedBlueprint) -> str:
    asked = blueprint.fragment(output.ref for output in blueprint.outputs.values())
    looking = {call.target: to for call in (*blueprint.training, *asked) for to in _looked_at(call)}
    if not looking:
        return "none of its components has a context that it looks at by cross-attention"
    blind = [(name, to) for name, to in looking.items() if not _has_patches(blueprint.type_of(to))]
    if len(blind) == len(looking):
        name, to = blind[0]
        return f"`{name}` looks at `{to}`, whose positions are no patches of the picture (they were pooled)"
    return f"no score of a picture and a text comes of what looks at patches ({_said(looking)})"


def _said(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
