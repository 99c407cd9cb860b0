"""From one stage's model to the next one's: the same weights, tables of positions for other sizes."""

from __future__ import annotations

from torch import Tensor

from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime import generators
from compose_vlp.runtime.positions import resize_image_table, resize_text_table


def fit(model: Model, before: CheckedBlueprint, after: CheckedBlueprint) -> tuple[Model, list[str]]:
    """A model of the blueprint `after` with the weights of one of `before`, and what was resized.

    The same model where both are one blueprint. Nothing is drawn, so that a run that goes on here goes on alike.

    Raises:
        UserError: a parameter that is no table of positions would change its shape.
    """
    if before is after:
        return model, []
    noise = generators.capture()
    fitted = build(after, next(model.parameters()).device)
    generators.restore(noise)
    weights, notes = model.state_dict(), []
    for name, wanted in fitted.state_dict().items():
        if name not in weights:
            raise UserError(f"the weight {name} is new in this stage", hints=["`set` keeps the parameters of a model"])
        if weights[name].shape != wanted.shape:
            weights[name] = _resized(name, weights[name], wanted, before, after)
            notes.append(f"{name} {list(wanted.shape)} resized")
    fitted.load_state_dict(weights)
    return fitted, notes


def _resized(name: str, table: Tensor, wanted: Tensor, before: CheckedBlueprint, after: CheckedBlueprint) -> Tensor:
    component = next(part for part in name.split(".") if part in after.components)
    then, now = (one.components[component].config for one in (before, after))
    if table.shape[-1] != wanted.shape[-1] or table.dim() != wanted.dim():
        raise UserError(f"{name} is {list(table.shape)}, and {list(wanted.shape)} in this stage")
    flat, start = (one.reshape(-1, one.shape[-1]) for one in (table, wanted))
    if getattr(then, "size", None) != getattr(now, "size", None):
        resized = resize_image_table(flat, len(start))
    else:
        resized = resize_text_table(flat, start, cls=int(getattr(now, "cls", None) == "last"))
    return resized.reshape(wanted.shape)
