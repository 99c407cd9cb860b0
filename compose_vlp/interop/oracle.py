"""A folder that holds one step of another implementation: its weights, inputs, results, gradients and next state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.interop.comparison import Outcome
from compose_vlp.interop.files import read_state


class Inputs(dict[str, Tensor]):
    """Tensors by name, which know which of them were taken out.

    Raises:
        UserError: one is taken that the folder has not.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.unread = set(tensors)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise UserError(f"inputs.safetensors has no {name!r}", hints=did_you_mean(name, self))
        self.unread.discard(name)
        return super().__getitem__(name)


class Sizes(dict[str, Any]):
    """What `config.json` says.

    Raises:
        UserError: something is asked for that it does not say.
    """

    def __missing__(self, name: str) -> Any:
        raise UserError(f"config.json does not say {name!r}", hints=did_you_mean(name, self))


@dataclass(frozen=True)
class Oracle:
    """The folder's content, names as in its files."""

    folder: Path
    config: Sizes
    weights: dict[str, Tensor]
    inputs: Inputs
    expected: Outcome


def read_oracle(folder: str | Path, losses: frozenset[str] = frozenset()) -> Oracle:
    """Read `config.json`, `model`, `inputs` and `outputs.safetensors`, and what there is of gradients and next state.

    `losses` names the outputs that are losses.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"no folder {str(place)!r}")
    norms = _json(place / "grad_norms.json") if (place / "grad_norms.json").is_file() else {}
    outputs = read_state(place / "outputs.safetensors")
    outcome = Outcome(
        values=outputs,
        losses=losses & outputs.keys(),
        norms={name: float(norm) for name, norm in norms.items()},
        gradients=_optional(place / "grads.safetensors"),
        state=_optional(place / "state_after.safetensors"),
    )
    return Oracle(
        folder=place,
        config=Sizes(_json(place / "config.json")),
        weights=read_state(place / "model.safetensors"),
        inputs=Inputs(read_state(place / "inputs.safetensors")),
        expected=outcome,
    )


def _optional(file: Path) -> dict[str, Tensor]:
    return read_state(file) if file.is_file() else {}


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"no file {str(file)!r}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no mapping")
    return content
