"""Which engine a stage runs on, and a divided model as a whole again: to save it, to measure it, for the next stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from compose_vlp.compiler.model import Model, build
from compose_vlp.compiler.recompute import Recomputed
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.stage import StagePlan
from compose_vlp.runtime.state import generators
from compose_vlp.runtime.training.engine import Engine, Replicas
from compose_vlp.runtime.training.sharding import Shards, whole

CPU = torch.device("cpu")


def make_engine(model: Model, plan: StagePlan, processes: Processes, again: Sequence[Recomputed] = ()) -> Engine:
    """Put a stage's engine around a model, which it may divide; one process needs none.

    What is trained has to be chosen before, and optimizers are made of the parameters that there are afterwards. The
    layers `again` run a second time in the backward.
    """
    if processes.world == 1:
        return Engine(model, again)
    if divides(plan, processes):
        return Shards(model, plan.distribute, processes, plan.precision, again)
    return Replicas(model, again)


def divides(plan: StagePlan, processes: Processes) -> bool:
    """Tell whether no process of a stage holds the whole model, which is then made in the host's memory."""
    return processes.world > 1 and plan.distribute.use != "ddp"


def whole_state(model: Model, *, everywhere: bool = False, main: bool = True) -> dict[str, Tensor]:
    """Gather the tensors of a model by name; all processes call it.

    What was divided is in the host's memory afterwards: in that of the first process, or `everywhere`; the others have
    nothing of it.
    """
    gathered: dict[int, Tensor] = {}
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in gathered:
            gathered[id(tensor)] = _gathered(tensor.detach(), kept=everywhere or main)
        state[name] = gathered[id(tensor)]
    return state


def whole_gradients(model: Model) -> dict[str, Tensor]:
    """Gather the gradients that there are, by name, in every process."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: _gathered(gradient, kept=True) for name, gradient in gradients.items() if gradient is not None}


def whole_model(
    model: Model, blueprint: CheckedBlueprint, device: torch.device, processes: Processes, *, everywhere: bool
) -> Model:
    """Make an undivided copy of a divided model, in the first process or `everywhere`; all processes call it.

    A model that is not divided is given as it is, and so is the model of a process that gets no copy.
    """
    if not isinstance(model, FSDPModule):
        return model
    state = whole_state(model, everywhere=everywhere, main=processes.main)
    if not (everywhere or processes.main):
        return model
    noise = generators.capture()
    copied = build(blueprint, device)
    generators.restore(noise)
    copied.load_state_dict(state)
    copied.tokenizers = dict(model.tokenizers)
    return copied


def _gathered(tensor: Tensor, *, kept: bool) -> Tensor:
    if not isinstance(tensor, DTensor):
        return tensor
    full = whole(tensor)
    return full.to(CPU) if kept else full.new_empty(0)
