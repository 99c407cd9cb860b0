"""A model's weights and gradients by component name (`vision.layers.0...`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from compose_vlp.compiler.model import Model


def load_weights(model: Model, state: Mapping[str, Tensor]) -> None:
    """Put weights into a model: every one of them, and all that it has."""
    model.components.load_state_dict(dict(state), strict=True)


def weights_of(model: Model) -> dict[str, Tensor]:
    """All weights; shared ones under every name that they have."""
    return dict(model.components.state_dict())


def gradients_of(model: Model) -> dict[str, Tensor]:
    """The gradients of all parameters; zeros where none arrived."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.components.named_parameters(remove_duplicate=False)
    }
