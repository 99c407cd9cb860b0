"""Inputs that name other things: the tokenizer of a text."""

from __future__ import annotations

from collections.abc import Mapping as Dict

from compose_vlp.blueprint.inputs import Input, TextInput
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.errors import Span, did_you_mean
from compose_vlp.graph.names import Names


def check_tokenizers(names: Names, inputs: Dict[str, Input]) -> None:
    """Note texts whose tokenizer is no tokenizer."""
    for name, spec in inputs.items():
        if not isinstance(spec, TextInput) or spec.tokenizer in names.document.missing:
            continue
        span = _span(names, name)
        section = names.section(spec.tokenizer)
        tokenizers = [
            one
            for one in names.document.components.names
            if (c := names.component(one)) and c.kind.category == "tokenizer"
        ]
        if section != "components":
            near = did_you_mean(spec.tokenizer, tokenizers)
            hint = f"a tokenizer is a component: `components: {{{spec.tokenizer}: {{use: wordpiece, ...}}}}`"
            names.problems.add(f"no component is called `{spec.tokenizer}`", span, *near, hint)
            continue
        declared = names.component(spec.tokenizer)
        if declared is not None and declared.kind.category != "tokenizer":
            near = did_you_mean(spec.tokenizer, tokenizers)
            message = f"`{spec.tokenizer}` is a {declared.kind.name}, and no tokenizer"
            names.problems.add(message, span, *near)


def _span(names: Names, name: str) -> Span:
    entry = names.entry(name)
    written = entry.value.get("tokenizer") if isinstance(entry.value, Mapping) else None
    return written.span if written is not None else entry.key.span
