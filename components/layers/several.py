"""Arguments of ports that take several values: a list of them, or the one that was written."""

from typing import Any

from torch import Tensor

from compose_vlp.components.layers.attention import ContextKeys


def as_list(given: Any) -> list[Any]:
    """The values as a list; none where nothing is given."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def picked(kv: ContextKeys | list[ContextKeys] | None, rows: Tensor | None) -> list[ContextKeys]:
    """Keys and values of one or several contexts, those that `rows` `[batch]` names where it is given."""
    return as_list(kv) if rows is None else [one.of(rows) for one in as_list(kv)]
