"""From one stage's model to the next one's: the same weights, tables of positions for other sizes."""

from __future__ import annotations

from torch import Tensor

from compose_vlp.compiler.model import Model, build
from compose_vlp.compiler.tables import table_of
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.state import generators
from compose_vlp.values.tables import resize_table


def fit(model: Model, before: CheckedBlueprint, after: CheckedBlueprint, seed: int) -> tuple[Model, list[str]]:
    """Fit the weights of a model of `before` into one of the blueprint `after`; gives it, and what was resized.

    The same model where both are one blueprint. What a longer table has more is drawn from `seed`, and the generators
    stay where they are, so that a run that goes on here goes on alike.

    Raises:
        UserError: a parameter that is no table of positions would change its shape.
    """
    if before is after:
        return model, []
    noise = generators.capture()
    fitted = build(after, next(model.parameters()).device, seed)
    generators.restore(noise)
    weights, expected, notes = model.state_dict(), fitted.state_dict(), []
    for name in sorted(weights.keys() ^ expected.keys()):
        raise UserError(
            f"only one of two stages has the weight {name}", hints=["`set` keeps the parameters of a model"]
        )
    for name, fresh in expected.items():
        if weights[name].shape != fresh.shape:
            weights[name] = _resized(name, weights[name], fresh, after)
            notes.append(f"{name} {list(fresh.shape)} resized")
    fitted.load_state_dict(weights)
    return fitted, notes


def _resized(name: str, table: Tensor, fresh: Tensor, blueprint: CheckedBlueprint) -> Tensor:
    kind = table_of(blueprint, name)
    if kind is None:
        raise UserError(f"{name} is {list(table.shape)}, and {list(fresh.shape)} in this stage")
    return resize_table(kind, table, fresh)
