"""What of a model may change its shape between stages: tables that the kinds of its components name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Size

from compose_vlp.compiler.adapting import AdapterError, of_adapters
from compose_vlp.compiler.model import build, make_on_meta
from compose_vlp.errors import BlueprintError, Problem, UserError
from compose_vlp.graph.graph import CheckedBlueprint, LossEntry, ResolvedComponent
from compose_vlp.values.tables import Table, resize_table


def tables_of(part: ResolvedComponent | LossEntry) -> Mapping[str, Table]:
    """The tables of a component or loss, by their paths below it."""
    return {} if part.kind.tables is None else dict(part.kind.tables(part.config))


def table_of(blueprint: CheckedBlueprint, name: str) -> Table | None:
    """Find the table that a weight of a model is, by its name (`components.vision.positions`); None of any other."""
    home, _, rest = name.partition(".")
    if home == "teachers":  # after the teacher's name come those of components
        rest = rest.partition(".")[2]
    owner, _, path = rest.partition(".")
    part = blueprint.losses.get(owner) if home == "losses" else blueprint.components.get(owner)
    return None if part is None else tables_of(part).get(path)


def check_shapes(blueprint: CheckedBlueprint) -> None:
    """See that what stages `set` keeps the shapes of all weights but tables, on the meta device.

    Raises:
        BlueprintError: it does not; each with the stage's place.
    """
    problems = [
        problem
        for stage in blueprint.variants
        for problem in (*_changed(blueprint, stage), *_adapters_changed(blueprint, stage))
    ]
    if problems:
        raise BlueprintError(problems, blueprint.document.lines())


def _changed(blueprint: CheckedBlueprint, stage: str) -> Iterator[Problem]:
    entry = blueprint.document.at("stages", stage, "set")
    span = None if entry is None else entry.key.span
    hint = "only tables of positions are resized; a blueprint of its own can start from these weights"
    then, now = _parts(blueprint), _parts(blueprint.of_stage(stage))
    for name in then.keys() & now.keys():
        if then[name].config == now[name].config:
            continue
        before, after = _shapes(then[name]), _shapes(now[name])
        for path in sorted(before.keys() | after.keys()):
            if path not in before or path not in after:
                what = "adds" if path in after else "takes away"
                yield Problem(f"stage `{stage}` {what} the weight {name}.{path}", span, (hint,))
            elif before[path] != after[path] and (reason := _refused(now[name], path, before[path], after[path])):
                message = f"stage `{stage}` makes {name}.{path} {list(after[path])}, which is {list(before[path])}"
                yield Problem(f"{message}: {reason}", span, (hint,))


def _adapters_changed(blueprint: CheckedBlueprint, stage: str) -> Iterator[Problem]:
    """A stage may set what adapters compute, and neither which maps they are for nor the shapes of what they own."""
    variant = blueprint.of_stage(stage)
    if _facts(blueprint) == _facts(variant):
        return
    entry = blueprint.document.at("stages", stage, "set")
    span = None if entry is None else entry.key.span
    try:
        before, after = (_of_adapters(version) for version in (blueprint, variant))
    except AdapterError as error:
        place = () if span is None else ((f"with what stage `{stage}` sets here", span),)
        yield from (replace(problem, related=(*problem.related, *place)) for problem in error.problems)
        return
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        hint = "`set` keeps the maps and the sizes of adapters; a blueprint of its own can start from these weights"
        yield Problem(f"stage `{stage}` changes the weights of adapters: {changed[0]}{more}", span, (hint,))


def _facts(blueprint: CheckedBlueprint) -> dict[str, Any]:
    return {
        name: (adapter.kind.name, adapter.config, adapter.match, adapter.but)
        for name, adapter in blueprint.adapters.items()
    }


def _of_adapters(blueprint: CheckedBlueprint) -> dict[str, Size]:
    parts = build(blueprint, "meta").parts()
    states = {name: (of_adapters(part), part.state_dict()) for name, part in parts.items()}
    return {f"{name}.{path}": state[path].shape for name, (own, state) in states.items() for path in own}


def _parts(blueprint: CheckedBlueprint) -> dict[str, Any]:
    """Components with weights of their own, and losses."""
    own = {
        name: part
        for name, part in blueprint.components.items()
        if part.kind.category == "component" and "*" not in part.share
    }
    return own | {f"losses.{name}": loss for name, loss in blueprint.losses.items()}


def _shapes(part: ResolvedComponent | LossEntry) -> dict[str, Size]:
    return {path: tensor.shape for path, tensor in make_on_meta(part.kind, part.config).state_dict().items()}


def _refused(part: ResolvedComponent | LossEntry, path: str, before: Size, after: Size) -> str | None:
    """Why a weight cannot be resized; None where it can."""
    kind = tables_of(part).get(path)
    if kind is None:
        return "parameters keep their shapes"
    try:
        resize_table(kind, *(torch.empty(shape, device="meta") for shape in (before, after)))
    except UserError as error:
        return error.problems[0].message
    return None
