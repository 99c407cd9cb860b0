"""Checking blueprints with stub kinds: what comes out, what a caret points at, and when two plans are one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from compose_vlp.blueprint.arguments import split_arguments
from compose_vlp.blueprint.resolve import Resolution, resolve
from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.graph.checking.check import check
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Arg, Call, Constant, Ref
from tests.graph.stub_kinds import Library

PAPERS = Path(__file__).resolve().parent.parent / "data" / "papers"
FIVE = ("coca", "albef", "blip", "vlmo", "beit3")

SMALL = """\
name: small
inputs:
  image:   {type: image, size: 64}
  caption: {type: text, tokenizer: words, max_length: 16}
components:
  words:      {use: wordpiece, vocab_size: 100}
  vision:     {use: vit, width: 64, depth: 1, heads: 4, patch: 16}
  text:       {use: bert_encoder, width: 64, depth: 1, heads: 4}
  image_proj: {use: projection, out: 32}
  text_proj:  {use: projection, out: 32}
  compare:    {use: similarity}
graph:
  v:   vision(image)
  t:   text(caption)
  ie:  normalize(image_proj(v.cls))
  te:  normalize(text_proj(t.cls))
  i2t: compare(ie, gathered(te))
  t2i: compare(te, gathered(ie))
losses:
  itc: {use: contrastive, scores: [i2t, t2i]}
outputs:
  shown: ie
"""
"""Two towers and a contrastive loss, to plant mistakes in."""


def resolved(*arguments: str, library: Library) -> Resolution:
    names, overrides = split_arguments(arguments)
    return resolve(names, overrides, library=PAPERS, fields_of=library.fields_of)


def checked(*arguments: str, kinds: Iterable[Kind] = ()) -> CheckedBlueprint:
    """A blueprint of the papers' folder (or a path), with overrides, as a command takes them."""
    library = Library(*kinds)
    actual = resolved(*arguments, library=library)
    if not actual.sound:
        actual.raise_problems()
    return check(actual.document, library, actual.problems)


@cache
def paper(name: str) -> CheckedBlueprint:
    """A checked blueprint that nobody changes."""
    return checked(name)


def problems(*arguments: str, kinds: Iterable[Kind] = ()) -> tuple[Problem, ...]:
    """All mistakes of a blueprint; none where it is sound."""
    try:
        checked(*arguments, kinds=kinds)
    except BlueprintError as error:
        return error.problems
    return ()


def edited(text: str, *changes: tuple[str, str]) -> str:
    """A text with pieces replaced, each of which is there once."""
    for before, after in changes:
        assert text.count(before) == 1, f"{before!r} stands {text.count(before)} times"
        text = text.replace(before, after)
    return text


def pointed(problem: Problem, lines: Any) -> str:
    """`file:line:column` of a problem and the text that its carets stand under."""
    span = problem.span
    assert span is not None, problem
    line = lines[span.file][span.line - 1]
    return f"{Path(span.file).name}:{span.line}:{span.column} {line[span.column - 1 : span.end_column - 1]}"


# --- plans --------------------------------------------------------------------------------------------------------


def counted(calls: Iterable[Call]) -> int:
    """Components, functions, indices, reads and losses; inputs do not count."""
    return sum(call.role != "input" for call in calls)


def shapes_of(calls: Iterable[Call]) -> Counter[Any]:
    """Calls by what they compute, whatever they are called: two plans of equal shapes are one plan."""
    structure: dict[str, Any] = {}
    ordered = list(calls)
    for call in ordered:
        args = tuple((name, _shape(arg, structure)) for name, arg in call.args)
        structure[call.id] = (call.role, call.target, call.world, args)
    return Counter(structure[call.id] for call in ordered)


def _shape(arg: Arg, structure: dict[str, Any]) -> Any:
    if isinstance(arg, Ref):
        return (structure[arg.call], arg.path)
    if isinstance(arg, tuple):
        return tuple(_shape(item, structure) for item in arg)
    return arg if isinstance(arg, Constant) else str(arg)


def written(calls: Iterable[Call]) -> list[str]:
    """Calls as lines: `wrong_image.joint = fusion(x=t, context=wrong_image.v)`; teachers' calls say whose."""
    return [f"{call.id} = {_world(call)}{_target(call)}({_arguments(call)})" for call in calls if call.role != "input"]


def _world(call: Call) -> str:
    return f"{call.world}." if call.world else ""


def _target(call: Call) -> str:
    return {"read": f".{call.target}", "index": "index"}.get(call.role, call.target)


def _arguments(call: Call) -> str:
    return ", ".join(f"{name}={_word(arg)}" for name, arg in call.args)


def _word(arg: Arg) -> str:
    if isinstance(arg, tuple):
        return f"[{', '.join(map(_word, arg))}]"
    if isinstance(arg, Constant):
        return repr(arg.value)
    return str(arg) if isinstance(arg, Ref) else f"${arg.name}"
