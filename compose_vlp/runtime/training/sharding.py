"""`fsdp` and `hybrid`: torch's FSDP2 (`fully_shard`, Zhao et al. 2023), a unit for each layer of the towers.

A process keeps its shard of every parameter, gradient and moment. A layer's parameters are gathered where it runs,
forward and backward; what is no layer (tables, heads, projections) is the root's, and gathered for the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from compose_vlp.blueprint.sections import Distribute, Precision
from compose_vlp.compiler.model import Model
from compose_vlp.compiler.recompute import Recomputed
from compose_vlp.compiler.units import Unit, units_of
from compose_vlp.errors import UserError
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.training.engine import Engine

ENTRIES = ("forward", "keys_values")
"""Methods by which a layer is entered from outside."""


class Shards(Engine):
    """The model divided among processes, or among each of several groups of them (`hybrid`).

    Gradients are brought together by every backward, that of each piece of a batch, too: to keep them whole until the
    last would take the memory that shards save.
    """

    def __init__(
        self,
        model: Model,
        how: Distribute,
        processes: Processes,
        precision: Precision,
        again: Sequence[Recomputed] = (),
    ) -> None:
        super().__init__(model, again)
        refuse_scalars(model)
        mesh = _mesh(how, processes)
        exact = MixedPrecisionPolicy(cast_forward_inputs=False)
        # autocast rounds the weights of products anyway; sums of gradients, and all that is no layer, stay in float32
        half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        # on a CPU, norms take no rounded weights beside what is not
        policy = half if precision == "bf16" and processes.device.type == "cuda" else exact
        offload = CPUOffloadPolicy() if how.offload and processes.device.type == "cuda" else OffloadPolicy()
        self.units = units_of(model)
        for unit in self.units:
            _shard_unit(unit, mesh, policy, offload, reshard=how.reshard)
        fully_shard(model, mesh=mesh, mp_policy=exact, offload_policy=offload)


def refuse_scalars(model: nn.Module) -> None:
    """Refuse what `fully_shard` cannot divide.

    Raises:
        UserError: a parameter has no dimension.
    """
    for path, parameter in model.named_parameters():
        if parameter.dim() == 0:
            raise UserError(
                f"the parameter {path.removeprefix('components.')} has the shape (), which cannot be divided",
                hints=["a component of your own gives it the shape (1,)", "`distribute: ddp` takes it as it is"],
            )


def _shard_unit(
    unit: Unit, mesh: DeviceMesh, precision: MixedPrecisionPolicy, offload: OffloadPolicy, *, reshard: bool
) -> None:
    """Divide a unit's parameters. Whichever of its layers runs, by whichever of its methods, gathers them."""
    together = len(unit.layers) > 1
    target = list(unit.layers) if together else unit.layers[0]
    fully_shard(target, mesh=mesh, reshard_after_forward=reshard, mp_policy=precision, offload_policy=offload)
    for layer in unit.layers:
        assert isinstance(layer, FSDPModule)
        if (
            together
        ):  # FSDP2's own hooks wait for all of a group to run; in a step, a text encoder may run and no decoder
            layer._get_fsdp_state()._pre_forward_hook_handle.remove()  # noqa: SLF001 (it has no public way)
        for name in ENTRIES if together else ENTRIES[1:]:
            if hasattr(layer, name):
                register_fsdp_forward_method(layer, name)


def _mesh(how: Distribute, processes: Processes) -> DeviceMesh:
    kind, world = processes.device.type, processes.world
    if how.use == "fsdp":
        return init_device_mesh(kind, (world,))
    shards = how.shards
    assert shards is not None, "the stage's plan says it"
    return init_device_mesh(kind, (world // shards, shards), mesh_dim_names=("replicas", "shards"))


# --- whole tensors of a divided model -----------------------------------------------------------------------------


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that is divided; all processes call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
