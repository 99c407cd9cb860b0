"""Inputs that name other things: the tokenizer of a text."""

from __future__ import annotations

from collections.abc import Mapping as Dict

from compose_vlp.blueprint.inputs import Input, TextInput
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.errors import Span, did_you_mean
from compose_vlp.graph.language.names import Names


def texts_without_tokenizer(names: Names, inputs: Dict[str, Input]) -> list[str]:
    """The texts whose tokenizer is no tokenizer (noted, where that was not said before)."""
    unsound = []
    for name, spec in inputs.items():
        if isinstance(spec, TextInput) and not _is_tokenizer(names, name, spec.tokenizer):
            unsound.append(name)
    return unsound


def _is_tokenizer(names: Names, name: str, tokenizer: str) -> bool:
    if names.section(tokenizer) != "components":
        if tokenizer not in names.missing:
            near = did_you_mean(tokenizer, _tokenizers(names))
            hint = f"a tokenizer is a component: `components: {{{tokenizer}: {{use: wordpiece, ...}}}}`"
            names.problems.add(f"no component is called `{tokenizer}`", _span(names, name), *near, hint)
        return False
    declared = names.component(tokenizer)
    if declared is not None and declared.kind.category != "tokenizer":
        known = _tokenizers(names)
        near = did_you_mean(tokenizer, known) or ((f"tokenizers here: {', '.join(known)}",) if known else ())
        names.problems.add(f"`{tokenizer}` is a {declared.kind.name}, and no tokenizer", _span(names, name), *near)
        return False
    return declared is not None


def _tokenizers(names: Names) -> list[str]:
    declared = (names.component(name) for name in names.document.components.names)
    return [one.name for one in declared if one is not None and one.kind.category == "tokenizer"]


def _span(names: Names, name: str) -> Span:
    entry = names.entry(name)
    written = entry.value.get("tokenizer") if isinstance(entry.value, Mapping) else None
    return written.span if written is not None else entry.key.span
