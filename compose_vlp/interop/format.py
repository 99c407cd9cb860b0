"""What verifying needs to know of another implementation's format."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from compose_vlp.compiler.model import Model
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.comparison import Outcome
from compose_vlp.interop.oracle import Oracle
from compose_vlp.values.tables import Table

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Filled:
    """The model that a file is to fill: its weights by name, how its tables are resized, and the weights that are meant
    (those that `to` names)."""

    tensors: State
    tables: Mapping[str, Table]
    meant: Collection[str]


class Imported(NamedTuple):
    """A file's tensors under our names, and the names in the file of those that have no place in this model."""

    tensors: dict[str, Tensor]
    left: tuple[str, ...] = ()


Importer = Callable[[State, Filled], Imported]
"""Gives a state dict our names."""


def by_itself(rename: Callable[[State], dict[str, Tensor]]) -> Importer:
    """An importer whose files tell everything themselves, whatever model they fill."""
    return lambda state, _: Imported(rename(state))


MODULES: Mapping[str, str] = {
    name: f"compose_vlp.interop.replays.{name}" for name in ("albef", "beit3", "blip", "open_clip_coca", "vlmo")
}
"""Formats by name, and the modules that hold their `FORMAT`."""


@dataclass(frozen=True)
class Format:
    """One format: `settings` names the blueprints of a folder and their overrides, the state dict is renamed to ours,
    and `replay` runs the recorded step with its recorded draws, without the compiler's passes that are named. An input
    of the folder that neither takes out is one that the step does not read.

    `losses` are the names of outputs that are losses.
    """

    name: str
    losses: frozenset[str]
    settings: Callable[[Oracle], tuple[tuple[str, ...], list[str]]]
    import_state: Importer
    replay: Callable[[CheckedBlueprint, Model, Oracle, Collection[str]], Outcome]


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UserError: there is none; offers the nearest.
    """
    if name not in MODULES:
        hints = did_you_mean(name, MODULES) or [f"formats: {', '.join(MODULES)}"]
        raise UserError(f"no format is called {name!r}", hints=hints)
    form: Format = importlib.import_module(MODULES[name]).FORMAT
    return form
