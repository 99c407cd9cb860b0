"""What `recompute` names is looked over before anything runs: components with layers that can run again."""

from __future__ import annotations

from collections.abc import Iterator

from compose_vlp.blueprint.document import Document, as_items
from compose_vlp.blueprint.nodes import Mapping, Node, Scalar
from compose_vlp.blueprint.scalars import Memory
from compose_vlp.blueprint.shrink import not_recomputed
from compose_vlp.compiler.model import Model
from compose_vlp.compiler.recompute import repeated_layers
from compose_vlp.errors import Problem, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.memory import recomputable, with_layers
from compose_vlp.runtime.stage import recompute_setting


def judge_recompute(blueprint: CheckedBlueprint, model: Model) -> Iterator[Problem]:
    """Judge the names of each stage, and those at the top, which some stage at least has to compute with gradients."""
    document = blueprint.document
    settings = {stage: recompute_setting(blueprint, stage) for stage in blueprint.stages}
    named = [stage for stage, what in settings.items() if what and not isinstance(what, Memory)]
    possible = {stage: recomputable(blueprint, stage) for stage in named}
    top = [stage for stage in possible if blueprint.stages[stage].recompute is None]
    for stage in possible.keys() - set(top):
        entry = document.stages.entry(stage)
        assert entry is not None, "a checked stage is written"
        assert isinstance(entry.value, Mapping), "a checked stage is a mapping"
        yield from _names(blueprint, model, entry.value.get("recompute"), {stage: possible[stage]})
    if not isinstance(blueprint.settings.get("recompute", ()), Memory):
        yield from _names(blueprint, model, document.root.get("recompute"), {stage: possible[stage] for stage in top})


def _names(
    blueprint: CheckedBlueprint, model: Model, node: Node | None, possible: dict[str, tuple[str, ...]]
) -> Iterator[Problem]:
    able, seen = with_layers(blueprint, model), set[str]()
    for item in as_items(node):
        if not isinstance(item, Scalar):
            continue
        name = _resolved(item, blueprint.document)
        if name not in model.components.by_name().__dict__:
            yield not_recomputed(item, able)
        elif name not in able:
            yield _unable(item, name, model, able)
        elif possible and not any(name in names for names in possible.values()):
            yield _untrained(item, name, possible)
        elif name in seen:
            yield Problem(f"`{name}` stands twice in `recompute`", item.span)
        seen.add(name)


def _unable(item: Scalar, name: str, model: Model, able: tuple[str, ...]) -> Problem:
    module = model.parts()[name]
    layers = any(True for _ in repeated_layers(module))
    why = "keeps a state that a second forward would change" if layers else "has no layers that repeat"
    hints = did_you_mean(name, able) or (f"components with layers: {', '.join(able) or 'none'}",)
    return Problem(f"`recompute` cannot be of `{name}`, which {why}", item.span, hints)


def _untrained(item: Scalar, name: str, possible: dict[str, tuple[str, ...]]) -> Problem:
    stages = " and ".join(f"`{stage}`" for stage in possible)
    others = dict.fromkeys(other for names in possible.values() for other in names)
    what = "stage" if len(possible) == 1 else "stages"
    message = f"`recompute` names `{name}`, whose layers keep nothing for a backward in {what} {stages}"
    return Problem(message, item.span, (f"with gradients run: {', '.join(others) or 'none that has layers'}",))


def _resolved(item: Scalar, document: Document) -> str:
    """A name, or the one that a param holds."""
    if not item.text.startswith("$"):
        return item.text
    param = document.params.get(item.text[1:])
    return param.text if isinstance(param, Scalar) else item.text
