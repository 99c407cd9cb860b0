"""How words are chosen: an output's settings with a caller's; how much of a text is there before the first choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.sections import Generate
from compose_vlp.compiler.compile import tokenizers_of
from compose_vlp.compiler.incremental import Incremental
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Call, Constant, Ref
from compose_vlp.graph.types import TextType
from compose_vlp.values import Text

DRAWS = frozenset({"top_p", "top_k", "temperature"})
SEARCH_SETTINGS = DRAWS | {"beams", "max_length", "min_length", "length_penalty", "repetition_penalty"}


def chosen_settings(entry: Generate, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Join the blueprint's settings with those of the caller.

    Beams that are asked for replace draws, and the other way; what is written for beams goes with them, and a least
    length that is longer than what is asked for.

    Raises:
        UserError: no such setting.
    """
    for name in settings:
        if name not in SEARCH_SETTINGS:
            raise UserError(f"generation has no setting {name!r}", hints=did_you_mean(name, SEARCH_SETTINGS))
    written = entry.model_dump(exclude_none=True, include=set(SEARCH_SETTINGS))
    gone: set[str] = set()
    if settings.get("beams", 1) > 1:
        gone |= DRAWS
    elif DRAWS & settings.keys():
        gone |= {"beams", "length_penalty"}
    elif "beams" in settings:
        gone |= {"length_penalty"}
    if settings.get("max_length", written.get("min_length", 0)) < written.get("min_length", 0):
        gone |= {"min_length"}
    return {**{name: value for name, value in written.items() if name not in gone}, **settings}


def check_settings(chosen: Mapping[str, Any]) -> None:
    """Refuse what a blueprint could not say either, and beams that would have to be drawn."""
    try:
        Generate(generate="logits", over="text", **chosen)
    except ValidationError as error:
        raise UserError(f"generation: {'; '.join(_wrong(detail) for detail in error.errors())}") from None


def _wrong(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"]))
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {text}, not {error['input']!r}" if place else text


def begun_tokens(
    blueprint: CheckedBlueprint, programs: Incremental, tokenizers: Mapping[str, Tokenizer], begin: int
) -> int:
    """Count the tokens of a text before its first word is chosen: the begin token, and a prompt of the program's."""
    over = blueprint.inputs[programs.over]
    assert isinstance(over, TextInput), "the checker lets texts alone be generated"
    plan = programs.whole.plan
    needing = tokenizers_of(blueprint, plan)
    texts: dict[str, Text] = {}
    for call in plan.calls:
        if call.role == "input" and call.target == programs.over:
            texts[call.id] = Text(torch.full((1, 1), begin), torch.ones(1, dtype=torch.int64), over.max_length)
        elif call.role == "function" and isinstance(call.type, TextType) and _stands_on(call, texts):
            tokenizer = {"tokenizer": tokenizers[needing[call.id]]} if call.id in needing else {}
            function = blueprint.functions[call.target].implementation
            texts[call.id] = function(**{name: _given(arg, texts) for name, arg in call.args}, **tokenizer)
    return max(int(text.lengths.max()) for text in texts.values())


def _stands_on(call: Call, texts: Mapping[str, Text]) -> bool:
    return all(ref.call in texts for ref in call.refs())


def _given(arg: Any, texts: Mapping[str, Text]) -> Any:
    return texts[arg.call] if isinstance(arg, Ref) else arg.value if isinstance(arg, Constant) else arg
