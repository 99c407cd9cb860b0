"""What only the names and shapes of parameters tell of a blueprint: parts that cannot be shared, patterns that match
nothing. They are known from the meta device, before a weight is made."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from compose_vlp.blueprint.document import Document, as_items
from compose_vlp.blueprint.nodes import Entry, Items, Node, Scalar
from compose_vlp.blueprint.nodes import Mapping as Tree
from compose_vlp.blueprint.patterns import matches, matches_any, near_names
from compose_vlp.compiler.adapting import AdapterError
from compose_vlp.compiler.model import Model, build
from compose_vlp.compiler.sharing import ShareError
from compose_vlp.errors import Problem, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.optimizer import parameter_paths
from compose_vlp.runtime.training.recompute import judge_recompute


def judge_parameters(blueprint: CheckedBlueprint) -> tuple[Problem, ...]:
    """Parts of another shape than their owner's, adapters that do not fit, patterns that match nothing."""
    try:
        model = build(blueprint, "meta")
    except ShareError as error:
        return tuple(_misfit(blueprint, *misfit) for misfit in error.misfits)
    except AdapterError as error:
        return error.problems
    except Exception:
        kinds = [part.kind for part in blueprint.components.values()]
        kinds += [adapter.kind for adapter in blueprint.adapters.values()]
        if all(kind.source.startswith("compose_vlp.") for kind in kinds):
            raise
        return ()  # a plugin that the meta device cannot make: whoever makes it for real says what is wrong with it
    document = blueprint.document
    trained = parameter_paths(model.parts())
    problems = [*_stages(document, trained), *_orders(document, trained), *_start(document, _every_name(model))]
    if not problems:  # else what is trained is not known
        problems = [*judge_recompute(blueprint, model)]
    return tuple(dict.fromkeys(problems))


def _misfit(blueprint: CheckedBlueprint, component: str, part: str, message: str) -> Problem:
    line = blueprint.document.at("components", component, "share", part)
    span = line.value.span if line is not None else blueprint.components[component].span
    return Problem(message, span, ("shared parts have one shape",))


def _every_name(model: Model) -> set[str]:
    """All tensors that `start` can fill, those of teachers below the teacher's name."""
    parts = {**model.parts(), **dict(model.teachers.named_children())}
    return {f"{name}.{path}" for name, part in parts.items() for path in part.state_dict()}


# --- patterns -----------------------------------------------------------------------------------------------------


def _stages(document: Document, trained: Collection[str]) -> Iterator[Problem]:
    """`train`, `freeze` and the rules of each stage, or those at the top that stand in for them."""
    for stage in document.stages:
        chosen: dict[str, list[Scalar]] = {}
        for key in ("train", "freeze"):
            chosen[key] = _scalars(_own(stage, document, key))
            for pattern in chosen[key]:
                if not any(matches(pattern.text, path) for path in trained):
                    yield _matches_nothing(pattern, trained)
        optimizer = _own(stage, document, "optimizer")
        rules = optimizer.get("rules") if isinstance(optimizer, Tree) else None
        for rule in rules if isinstance(rules, Items) else ():
            patterns = _scalars(rule.get("match")) if isinstance(rule, Tree) else []
            texts = [pattern.text for pattern in patterns]
            if patterns and not any(matches_any(texts, path) for path in trained):
                yield _matches_nothing(patterns[0], trained)


def _orders(document: Document, trained: Collection[str]) -> Iterator[Problem]:
    """Judge the components of each stage's `layer_decay`, or of the one at the top that stands in for it."""
    heads = list(dict.fromkeys(_head(path) for path in trained))
    for stage in document.stages:
        optimizer = _own(stage, document, "optimizer")
        decay = optimizer.get("layer_decay") if isinstance(optimizer, Tree) else None
        items = as_items(decay.get("order")) if isinstance(decay, Tree) else ()
        seen: set[str] = set()
        for name in (scalar for item in items for scalar in _scalars(item)):
            if name.text not in heads:
                hints = did_you_mean(name.text, heads) or (f"components with weights: {', '.join(heads)}",)
                yield Problem(
                    f"`order` of `layer_decay` names no component with weights: `{name.text}`", name.span, hints
                )
            elif name.text in seen:
                yield Problem(f"`{name.text}` stands twice in `order` of `layer_decay`", name.span)
            seen.add(name.text)


def _head(path: str) -> str:
    """Name the component of a parameter, or the loss as `losses.NAME`."""
    return ".".join(path.split(".")[: 2 if path.startswith("losses.") else 1])


def _start(document: Document, names: Collection[str]) -> Iterator[Problem]:
    for item in as_items(document.root.get("start")):
        for key in ("to", "new"):
            for pattern in _scalars(item.get(key)) if isinstance(item, Tree) else ():
                if not any(matches(pattern.text, name) for name in names):
                    yield _matches_nothing(pattern, names)


def _own(stage: Entry, document: Document, key: str) -> Node | None:
    own = stage.value.get(key) if isinstance(stage.value, Tree) else None
    return own if own is not None else document.root.get(key)


def _scalars(node: Node | None) -> list[Scalar]:
    return [item for item in as_items(node) if isinstance(item, Scalar)]


def _matches_nothing(pattern: Scalar, names: Collection[str]) -> Problem:
    return Problem(f"`{pattern.text}` names no parameter", pattern.span, near_names(pattern.text, names))
