"""What the replays of training steps have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from compose_vlp.compiler.compile import choices_of, compile_plan, compile_stage
from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.teachers import taught_by
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.interop import bert
from compose_vlp.interop.rules import Rule, to_theirs
from compose_vlp.interop.weights import gradients_of, weights_of
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Index, Number, Text


@dataclass(frozen=True)
class Recorded:
    """A recorded step: the blueprint's inputs, and what maskers and miners drew.

    What it had of params is the blueprint's: written there as constants.
    """

    batch: Mapping[str, Any]
    choices: Mapping[str, Any] = field(default_factory=dict)


def train_step(
    blueprint: CheckedBlueprint, model: Model, stage: str, recorded: Recorded, without: Collection[str] = ()
) -> dict[str, Tensor]:
    """The unweighted losses of a stage's program, after the backward of their weighted sum; teachers follow, queues
    advance.

    Raises:
        UserError: the recording has draws that the step does not make.
    """
    compiled = compile_stage(blueprint, stage, without=without)
    for name in sorted(recorded.choices.keys() - choices_of(blueprint, compiled.plan)):
        raise UserError(f"the recording has what {name!r} drew, and the step draws no such thing")
    model.start_teachers(taught_by(compiled.plan))
    model.update_teachers("before")
    losses = model(compiled.run, recorded.batch, Step(choices=recorded.choices))
    weights = {name: blueprint.weight_of(name) for name in losses}
    constant = {name: weight for name, weight in weights.items() if isinstance(weight, float | int)}
    torch.stack([constant[name] * loss.value for name, loss in losses.items()]).sum().backward()
    model.commit()
    model.update_teachers("after")
    return {name: loss.value for name, loss in losses.items()}


@torch.no_grad()
def values(blueprint: CheckedBlueprint, model: Model, refs: Mapping[str, Ref], recorded: Recorded) -> dict[str, Any]:
    """Values of the student's graph, computed apart from the step; nothing is kept of it."""
    program = compile_plan(blueprint, "values", refs, trainable=lambda _: False).run
    with evaluating(model):
        results: dict[str, Any] = model(program, recorded.batch, Step(choices=recorded.choices))
    return results


def text_of(ids: Tensor, mask: Tensor, frame: int) -> Text:
    """Ids and mask [rows, length] as a text; the mask is true at the words, which come first."""
    return Text(ids, mask.sum(1), frame)


def soft_labels(name: str, scores: Tensor) -> dict[str, Any]:
    """Soft scores [rows, classes] as an input of labels of which a record has many."""
    rows, classes = scores.nonzero(as_tuple=True)
    weights = Number(scores[rows, classes])
    return {name: Number(classes), f"{name}.owner": Index(rows), f"{name}.weight": weights}


def gradients(model: Model, rules: Collection[Rule]) -> dict[str, Tensor]:
    """The gradients of the student's parameters under the names of a format."""
    return _named(rules, gradients_of(model))


def state(model: Model, rules: Collection[Rule], names: Collection[str]) -> dict[str, Tensor]:
    """Weights and buffers under the names of a format's state dict; nothing where the folder has none."""
    return bert.with_derived(_named(rules, weights_of(model)), names) if names else {}


def _named(rules: Collection[Rule], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep what both sides have: a buffer is no parameter, and what a task leaves uncalled has no counterpart."""
    shared = [rule for rule in rules if all(name in ours for name in rule.ours)]
    return to_theirs(shared, {name: ours[name] for rule in shared for name in rule.ours})
