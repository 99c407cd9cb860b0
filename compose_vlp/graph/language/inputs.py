"""Inputs that name other things: the tokenizer of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping as Dict

from compose_vlp.blueprint.inputs import ImageInput, Input, TextInput
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


def judge_views(names: Names, inputs: Dict[str, Input]) -> None:
    """Note views that one input has alone: they say what two sizes of a picture share."""
    views = Counter(spec.view for spec in inputs.values() if isinstance(spec, ImageInput))
    if any(removed.section == "inputs" for removed in names.document.removed):
        return  # the other one may be among these
    for name, spec in inputs.items():
        if isinstance(spec, ImageInput) and spec.view is not None and views[spec.view] == 1:
            message = f"no other input has the view `{spec.view}`, so `{name}` shares its draws with none"
            near = did_you_mean(spec.view, [view for view in views if view not in (None, spec.view)])
            names.problems.add(message, _span(names, name, "view"), *near)


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
    return [
        component.name for component in declared if component is not None and component.kind.category == "tokenizer"
    ]


def _span(names: Names, name: str, field: str = "tokenizer") -> Span:
    entry = names.entry(name)
    written = entry.value.get(field) if isinstance(entry.value, Mapping) else None
    return written.span if written is not None else entry.key.span
