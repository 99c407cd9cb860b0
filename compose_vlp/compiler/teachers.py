"""Teachers: worlds of modules of their own, whose weights follow the student's."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Plan, Ref


class Teacher(nn.Module):
    """Copies of the components that a teacher's calls reach, parts that these share being shared here too.

    A child carries its component's name. `train()` leaves a teacher of `mode: eval` in eval mode. A new teacher holds
    what the student was drawn as, and has to be started before it is of use; whether it was goes into its state.
    """

    _started: Tensor

    def __init__(self, students: Mapping[str, nn.Module], decay: float | None, mode: str) -> None:
        super().__init__()
        self.decay, self.mode = decay, mode
        self._modules.update(copy.deepcopy(dict(students)))  # in one go, so that what is shared stays shared
        self.requires_grad_(False)
        self.register_buffer("_started", torch.zeros(1, dtype=torch.bool))
        self.train()

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode and self.mode == "train")
        return self

    def by_name(self) -> SimpleNamespace:
        """Its components as attributes, as programs call them."""
        return SimpleNamespace(**self._modules)

    @property
    def started(self) -> bool:
        """Has it got weights: a copy of the student's, or some that were loaded?"""
        return bool(self._started)

    def mark_started(self) -> None:
        """Its weights count from now on."""
        self._started.fill_(True)

    @torch.no_grad()
    def copy_from(self, students: Mapping[str, nn.Module]) -> None:
        """Take the student's weights and buffers as they are."""
        for tensor, student in (*self._weights(students), *self._buffers_of(students)):
            tensor.copy_(student)
        self.mark_started()

    @torch.no_grad()
    def follow(self, students: Mapping[str, nn.Module], decay: float | None = None) -> None:
        """`weights = decay * weights + (1 - decay) * student's`, in one sweep; buffers are copied.

        Raises:
            ValueError: the decay is a schedule, and its present value is not given.
        """
        kept = self.decay if decay is None else decay
        if kept is None:
            raise ValueError("a teacher whose decay is a schedule is told the decay of each step")
        weights = self._weights(students)
        if weights:
            torch._foreach_lerp_([tensor for tensor, _ in weights], [student for _, student in weights], 1.0 - kept)
        for tensor, student in self._buffers_of(students):
            tensor.copy_(student)

    def _weights(self, students: Mapping[str, nn.Module]) -> list[tuple[Tensor, Tensor]]:
        """Each of its parameters with the student's; a shared one once."""
        pairs: dict[int, tuple[Tensor, Tensor]] = {}
        for name, module in self.named_children():
            parameters = dict(students[name].named_parameters())
            for path, parameter in module.named_parameters():
                pairs[id(parameter)] = (parameter, parameters[path].detach())
        return list(pairs.values())

    def _buffers_of(self, students: Mapping[str, nn.Module]) -> Iterator[tuple[Tensor, Tensor]]:
        for name, module in self.named_children():
            buffers = dict(students[name].named_buffers())
            yield from ((buffer, buffers[path]) for path, buffer in module.named_buffers())


def taught_by(plan: Plan) -> tuple[str, ...]:
    """The teachers whose world a plan's calls need."""
    return tuple(dict.fromkeys(call.world for call in plan.calls if call.world))


def following(blueprint: CheckedBlueprint, plan: Plan) -> tuple[str, ...]:
    """The teachers that follow while a stage runs this plan: those that it calls, and those that outputs read.

    The latter may be called by no loss: an average of the weights for evaluation.
    """
    asked = (call.world for call in blueprint.fragment(_asked(blueprint)) if call.world)
    return tuple(dict.fromkeys((*taught_by(plan), *asked)))


def _asked(blueprint: CheckedBlueprint) -> list[Ref]:
    return [ref for output in blueprint.outputs.values() for ref in (output.ref, output.to) if ref is not None]


def reached_by_teachers(blueprint: CheckedBlueprint) -> dict[str, list[str]]:
    """Each teacher's components, in the blueprint's order: those that its calls reach, in any loss, output or stage."""
    reached_components: dict[str, set[str]] = {name: set() for name in blueprint.teachers}
    for variant in (blueprint, *blueprint.variants.values()):
        results = [Ref(loss.call) for loss in variant.losses.values()] + _asked(variant)
        for call in variant.fragment(results):
            if call.world is not None and call.role == "component":
                reached_components[call.world].add(call.target)
    return {name: [c for c in blueprint.components if c in reached] for name, reached in reached_components.items()}
