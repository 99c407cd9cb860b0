"""Checks of outputs that write a text: word by word, up to a length, at a mask where they say so."""

from __future__ import annotations

from typing import Any, NamedTuple

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.sections import Generate
from compose_vlp.errors import Span
from compose_vlp.graph.checking.growing import CannotGrowError, Growing, components_of, split, steps_of
from compose_vlp.graph.expanding.substitute import Substitution
from compose_vlp.graph.graph import needed_calls
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Constant, Ref
from compose_vlp.graph.types import TextType

OWN_MASK = frozenset({"transformers_tokenizer"})
"""Tokenizers with a mask of their own, which only their file tells."""


class _Part(NamedTuple):
    kind: Kind
    config: Any


def check_writing(substitution: Substitution, mapping: Mapping, settings: Generate, ref: Ref, over: str) -> bool:
    """Check that these logits can write texts of `over` as the output's settings say; note what they cannot."""
    problems = substitution.problems
    before = len(problems)
    spec = substitution.calls.inputs[over]
    assert isinstance(spec, TextInput), "logits stand on texts alone"
    growing = split(needed_calls(substitution.calls.done, [ref]), over)
    _check_steps(substitution, mapping, growing)
    if settings.by == "mask":
        _check_mask(substitution, mapping, spec.tokenizer)
    if not spec.end:
        message = f"texts of `{over}` have no end token, so that what is written would never end"
        problems.add(message, _span(mapping, "over"), f"`inputs.{over}: {{end: true}}`")
    most = settings.max_length or spec.max_length
    if most > spec.max_length:
        message = f"max_length {most} against max_length {spec.max_length} of `{over}`"
        problems.add(message, _span(mapping, "max_length"), "positions are made for so many tokens")
    elif settings.min_length > most:
        message = f"min_length {settings.min_length} against max_length {most} of `{over}`"
        problems.add(message, _span(mapping, "min_length"), "no text is so long")
    else:
        _check_prompts(substitution, mapping, growing, most)
    return len(problems) == before


def _check_steps(substitution: Substitution, mapping: Mapping, growing: Growing) -> None:
    """A new word leaves what was computed for those before as it is."""
    calls = substitution.calls
    sizings = {name: _Part(sizing.declared.kind, sizing.config) for name, sizing in calls.sizings.items()}
    try:
        steps_of(growing, components_of(sizings, calls.functions))
    except CannotGrowError as error:
        related = [(f"`{error.call.target}` is called here", error.call.span)] if error.call.span else []
        message = f"{error}, so nothing can be written through it word by word"
        substitution.problems.add(message, _span(mapping, "generate"), related=related)


def _check_mask(substitution: Substitution, mapping: Mapping, tokenizer: str) -> None:
    """Words that are read at a mask need a token for it."""
    sizing = substitution.calls.sizings.get(tokenizer)
    if sizing is None or sizing.setting("mask") is None or sizing.declared.kind.name in OWN_MASK:
        return
    if sizing.config.mask is None:
        message = f"`by: mask` reads words at a mask token, and tokenizer `{tokenizer}` has none"
        substitution.problems.add(message, _span(mapping, "by"), f'`components.{tokenizer}.mask: "[MASK]"` names one')


def _check_prompts(substitution: Substitution, mapping: Mapping, growing: Growing, most: int) -> None:
    """A prompt has a token for each of its words at least, behind the begin token, and one more has to fit."""
    for call in growing.grows:
        words = call.arg("words")
        if call.role != "function" or not isinstance(call.type, TextType) or not isinstance(words, Constant):
            continue
        count = 1 + sum(any(letter.isalnum() for letter in word) for word in str(words.value).split())
        if count >= most:
            related = [("the prompt is put in here", call.span)] if call.span else []
            message = f"max_length {most} leaves no word to write: texts begin with {count} tokens or more"
            place = "max_length" if "max_length" in mapping else "over"
            hint = "the begin token counts, and so does a prompt"
            substitution.problems.add(message, _span(mapping, place), hint, related=related)


def _span(mapping: Mapping, field: str) -> Span:
    node = mapping.get(field)
    return node.span if node is not None else mapping.span
