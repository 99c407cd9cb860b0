"""timm's weights into the component `timm`, by timm's own conversion of old and official checkpoints."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from compose_vlp.errors import UserError
from compose_vlp.interop.maps.name_map import Converted, NameMap, State

PREFIX = "model."


def fits(names: Collection[str], module: Any) -> bool:
    """Has the file names of this very model?"""
    return len(set(names) & module.model.state_dict().keys()) > len(names) // 2


def convert(state: State, module: Any) -> Converted:
    """The names of the model in timm; its tables of positions are resized as timm does it.

    Raises:
        UserError: timm cannot convert the file.
    """
    model: nn.Module = module.model
    names = model.state_dict().keys()
    originals = {id(tensor): name for name, tensor in state.items()}
    tensors: dict[str, Tensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    notes = []
    for name, tensor in _filtered(dict(state), model).items():
        if name in names:
            original = originals.get(id(tensor), name)  # renamed, or made anew under its name
            tensors[f"{PREFIX}{name}"], sources[f"{PREFIX}{name}"] = tensor, (original,)
            if original in state and state[original].shape != tensor.shape:
                notes.append(f"{PREFIX}{name}: {list(state[original].shape)} made {list(tensor.shape)} by timm")
    return Converted(tensors, sources, tuple(notes))


def _filtered(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    convert_checkpoint = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if convert_checkpoint is None:
        return state
    try:
        converted = convert_checkpoint(state, model)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"`start`: timm cannot read these weights for a {type(model).__name__}: {error}") from error
    return {name: tensor for name, tensor in converted.items() if isinstance(tensor, Tensor)}


MAP = NameMap("timm", frozenset({"timm"}), fits, convert)
