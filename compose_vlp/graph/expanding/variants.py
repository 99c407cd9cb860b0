"""A stage's `set`: the blueprint with those overrides, checked anew, on the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.overrides import apply_settings
from compose_vlp.errors import Problem, Span
from compose_vlp.graph.graph import CheckedBlueprint, ResolvedComponent
from compose_vlp.graph.language.names import Kinds
from compose_vlp.graph.problems import Problems

RESIZED = frozenset({"size", "length", "tokens", "grid"})
"""Sizes behind tables of positions, which are resized between stages; all other parameters keep their shapes."""

Check = Callable[[Document, Problems], CheckedBlueprint]


def stage_variant(
    blueprint: CheckedBlueprint, stage: str, kinds: Kinds, problems: Problems, check: Check
) -> CheckedBlueprint | None:
    """The blueprint that a stage with `set` runs; None where nothing is set, or something is wrong (noted)."""
    entry = blueprint.document.at("stages", stage, "set")
    if entry is None or not isinstance(entry.value, Mapping):
        return None
    document, mistakes = apply_settings(blueprint.document, entry.value, lambda name: _fields(kinds, name))
    if mistakes:
        problems.extend(mistakes)
        return None
    own = Problems()
    variant = check(document, own)
    problems.extend(_inside(own.found, stage, entry.key.span))
    if own.found:
        return None
    for name, before in blueprint.components.items():
        after = variant.components.get(name)
        if after is not None:
            _same_parameters(before, after, stage, entry.key.span, problems)
    return variant


def _fields(kinds: Kinds, name: str) -> frozenset[str] | None:
    if name not in kinds.names():
        return None
    kind = kinds.get(name)
    return frozenset({*kind.settings, *kind.ports})


def _inside(problems: Iterable[Problem], stage: str, span: Span) -> list[Problem]:
    return [
        Problem(p.message, p.span, p.hints, (*p.related, (f"with what stage `{stage}` sets here", span)))
        for p in problems
    ]


def _same_parameters(
    before: ResolvedComponent, after: ResolvedComponent, stage: str, span: Span, problems: Problems
) -> None:
    """A component stays of its kind, and every size that follows from the graph stays, tables of positions excepted."""
    if before.kind.name != after.kind.name:
        message = f"stage `{stage}` makes `{before.name}` a `{after.kind.name}`: its parameters would be others"
        problems.add(
            message, span, f"it is a `{before.kind.name}`; a blueprint of its own can start from these weights"
        )
        return
    for name, size in after.inferred.items():
        old = before.inferred.get(name, size)
        if old != size and after.measures.get(name) not in RESIZED and problems.is_first(f"{stage} {name} {size}"):
            message = (
                f"stage `{stage}` makes {name} of `{before.name}` {size}, which is {old}: parameters keep their shapes"
            )
            problems.add(message, span, "only tables of positions are resized")
