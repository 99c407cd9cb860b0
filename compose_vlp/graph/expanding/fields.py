"""`.cls`, `.tokens`, parts and `[index]`: what they give of a value's type, and why they give nothing."""

from __future__ import annotations

import dataclasses

from compose_vlp.errors import did_you_mean
from compose_vlp.graph import derive
from compose_vlp.graph.language.expressions import Field, Index, unparse
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import Flow, IndexType, SequenceType, ValueType


def read_type(node: Field, kind: ValueType, problems: Problems) -> ValueType | None:
    """`.cls`, `.tokens` or a part of a Sequence; None where there is no such thing (noted)."""
    if isinstance(kind, SequenceType):
        if node.name == "cls":
            return _cls(node, kind, problems)
        if node.name == "tokens":
            return derive.tokens_of(kind)
        if (part := kind.part(node.name)) is not None:
            return derive.part_of(kind, part)
    there = list(kind.members())
    if isinstance(kind, SequenceType):
        cls = ["cls"] if kind.parts and kind.parts[0].cls != "none" else []
        there = [*cls, "tokens", *(part.name for part in kind.parts)]
    hint = f"it has {', '.join(f'`.{name}`' for name in there)}" if there else "it has no fields"
    near = did_you_mean(node.name, there)
    problems.add(f"`{unparse(node.value)}` ({kind.kind}) has no `.{node.name}`", node.name_span, *near, hint)
    return None


def _cls(node: Field, kind: SequenceType, problems: Problems) -> ValueType | None:
    text = unparse(node.value)
    if not kind.parts or kind.parts[0].cls == "none":
        problems.add("this Sequence has no CLS", node.name_span, f"`mean({text})` pools its tokens")
        return None
    part = kind.parts[0]
    flow = part.reads.get(part.text.root) if part.text else None
    if part.cls == "first" and flow is not None and flow < Flow.ALL:  # in front of words, it may look back only
        reach = "no position sees later ones" if flow else "no position sees another one"
        message = f"the CLS of `{text}` stands first, and {reach}: it has seen nothing of the words"
        problems.add(message, node.name_span, f"`mean({text})` pools its tokens; or `cls: last`")
    return derive.cls_of(kind)


def points_at_rows(node: Index, kind: ValueType, index: IndexType, problems: Problems) -> bool:
    """Check whether an index points at rows of the value that it picks from (noted, if not)."""
    if kind.rows == index.points_at:
        return True
    inner, text = unparse(node.value), unparse(node.index)
    hint: tuple[str, ...] = ()
    if dataclasses.replace(kind.rows, gathered=True) == index.points_at:
        hint = (f"it chose among the rows of all processes: `gathered({inner})[{text}]`",)
    message = f"`{text}` points at rows of {index.points_at}, and `{inner}` has rows of {kind.rows}"
    problems.add(message, node.index.span, *hint)
    return False
