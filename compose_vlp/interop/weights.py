"""A model's weights and gradients by component name (`vision.layers.0...`), a loss's below `losses`, a teacher's below
its own name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from compose_vlp.compiler.adapting import adapted_maps, merged_weight, of_adapters
from compose_vlp.compiler.model import Model
from compose_vlp.compiler.teachers import Teacher
from compose_vlp.errors import UserError

LOSSES = "losses."
"""What the paths of a loss's weights begin with."""
MOST = 400
"""Characters of a line that says which names are wrong."""


def load_weights(model: Model, state: Mapping[str, Tensor], spare: Collection[str] = ()) -> tuple[str, ...]:
    """Put weights into a model: every one of them, and all that it has, but for teachers of which the state has none.

    Components in `spare` (those that nothing calls) may keep what they have. A teacher's weights stand below its name
    (`momentum.vision.layers.0...`). Gives the teachers that have to start as copies.

    Raises:
        UserError: a weight is missing, or too many, or of another shape.
    """
    own, copies = dict(state), list[str]()
    for name, teacher in teachers_of(model).items():
        mine = {path.removeprefix(f"{name}."): own.pop(path) for path in state if path.startswith(f"{name}.")}
        if mine:
            _load(teacher, {**mine, "_started": torch.ones(1, dtype=torch.bool)}, f"teacher {name}")
        else:
            copies.append(name)
    losses = {path.removeprefix(LOSSES): own.pop(path) for path in state if path.startswith(LOSSES)}
    _load(model.losses, losses, "the losses")
    kept = {name: tensor for name, tensor in model.components.state_dict().items() if name.split(".")[0] in spare}
    _load(model.components, kept | own, "the model")
    return tuple(copies)


def _load(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(f"the weights do not fit {what}", hints=[line[:MOST] for line in lines]) from error


def weights_of(model: Model) -> dict[str, Tensor]:
    """All weights; shared ones under every name that they have, those of teachers below the teacher's name."""
    weights = dict(model.components.state_dict())
    weights |= {f"{LOSSES}{path}": tensor for path, tensor in model.losses.state_dict().items()}
    for name, teacher in teachers_of(model).items():
        weights |= {f"{name}.{path}": tensor for path, tensor in teacher.state_dict().items() if path != "_started"}
    return weights


def merged_weights_of(model: Model) -> dict[str, Tensor]:
    """All weights with adapters merged into the maps that they adapt: those of the model that has no adapters.

    Raises:
        UserError: an adapter cannot be merged, or a map's weight is also that of something without the adapter.
    """
    weights = weights_of(model)
    homes = [(f"{name}.", teacher) for name, teacher in teachers_of(model).items()]
    for prefix, home in (("", model.components), (LOSSES, model.losses), *homes):
        _check_merged_everywhere(home)
        for name in of_adapters(home):
            weights.pop(f"{prefix}{name}", None)
        with torch.no_grad():
            weights |= {
                f"{prefix}{path}.weight": merged_weight(adapted) for path, adapted in adapted_maps(home).items()
            }
    return weights


def _check_merged_everywhere(home: nn.Module) -> None:
    """Refuse a map whose weight stands elsewhere without the adapter: merged, it would be two weights."""
    adapted = {f"{path}.weight": linear_map for path, linear_map in adapted_maps(home).items()}
    by_weight = {id(linear_map.own_weight): linear_map for linear_map in adapted.values()}
    for name, parameter in home.named_parameters(remove_duplicate=False):
        linear_map = by_weight.get(id(parameter))
        if linear_map is not None and name not in adapted:
            raise UserError(
                f"adapter {linear_map.adapter_name!r} of {linear_map.path} cannot be merged: its weight is also {name}",
                hints=["`--apart` leaves adapters beside the maps that they adapt"],
            )


def teachers_of(model: Model) -> dict[str, Teacher]:
    """The teachers by name."""
    return {name: teacher for name, teacher in model.teachers.named_children() if isinstance(teacher, Teacher)}


def gradients_of(model: Model) -> dict[str, Tensor]:
    """The gradients of all parameters; zeros where none arrived."""
    return {
        f"{name}.{path}": torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, part in model.parts().items()
        for path, parameter in part.named_parameters(remove_duplicate=False)
    }
