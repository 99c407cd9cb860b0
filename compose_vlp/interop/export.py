"""A trained model's weights as one file, by which another blueprint begins."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from compose_vlp.compiler.adapting import Adapted
from compose_vlp.compiler.model import Model
from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic
from compose_vlp.interop.weights import merged_weights_of, weights_of

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Exported:
    """What was written: the file, how many tensors, and how many maps of which adapters were merged."""

    file: str
    tensors: int
    bytes: int
    merged: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def export(model: Model, file: Path, *, apart: bool = False) -> Exported:
    """Write all weights by the names that `start` reads, `vision.layers.0...`; a teacher's below its name.

    Adapters are merged into the maps that they adapt, so that the file fits the blueprint without them; `apart` leaves
    them beside the maps.

    Raises:
        UserError: an adapter that cannot be merged; a file of another ending, or that cannot be written.
    """
    if file.suffix != SUFFIX:
        raise UserError(f"{file} is no {SUFFIX} file", hints=(f"{file.with_suffix(SUFFIX)}",))
    state = weights_of(model) if apart else merged_weights_of(model)
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from error
    merged: dict[str, int] = {}
    for module in model.modules() if not apart else ():
        if isinstance(module, Adapted):
            merged[module.adapter_name] = merged.get(module.adapter_name, 0) + 1
    return Exported(str(file), len(state), len(content), merged)
