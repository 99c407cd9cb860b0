"""A trained model's weights as one file, by which another blueprint begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from compose_vlp.compiler.adapting import Adapted
from compose_vlp.compiler.model import Model
from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic
from compose_vlp.interop import beit3, open_clip_coca, vlmo
from compose_vlp.interop.formats import PLAIN, check_form
from compose_vlp.interop.weights import merged_weights_of, weights_of
from compose_vlp.readable import several, storage

SUFFIX = ".safetensors"
FORMATS: Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "beit3": beit3.export_state,
    "open_clip_coca": open_clip_coca.export_state,
    "vlmo": vlmo.export_state,
}
"""Formats of other implementations, and what gives our weights their names."""


@dataclass(frozen=True)
class Exported:
    """The result of an export: the file, how many tensors, and how many maps of which adapters were merged."""

    file: str
    tensors: int
    bytes: int
    merged: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def facts(self, form: str = PLAIN) -> list[tuple[str, str]]:
        """List for a card the file, whose names its weights have, and what was merged."""
        facts = [
            ("file", f"{Path(self.file).name}: {several(self.tensors, 'tensor')}, {storage(self.bytes)}"),
            ("names of weights", "compose-vlp's own, which `start` reads" if form == PLAIN else form),
        ]
        return [*facts, ("adapters", self._maps())] if self.merged else facts

    def lines(self) -> list[str]:
        """Tell what was written."""
        line = f"{self.file}: {several(self.tensors, 'tensor')}, {storage(self.bytes)}"
        return [f"{line}; {self._maps()}" if self.merged else line]

    def _maps(self) -> str:
        return "; ".join(f"{name} merged into {several(count, 'linear map')}" for name, count in self.merged.items())


def export(model: Model, file: Path, *, apart: bool = False, form: str = PLAIN) -> Exported:
    """Write all weights by the names that `start` reads, `vision.layers.0...`; a teacher's below its name.

    With another `form` the names are those of another implementation, and the weights those that it has.

    Adapters are merged into the maps that they adapt, so that the file fits the blueprint without them; `apart` leaves
    them beside the maps.

    Raises:
        UserError: an adapter that cannot be merged; a file of another ending, or that cannot be written; no such form,
            or a model that is none of it.
    """
    if file.suffix != SUFFIX:
        raise UserError(f"{file} is no {SUFFIX} file", hints=(f"{file.with_suffix(SUFFIX)}",))
    check_form(form)
    if form != PLAIN and apart:
        raise UserError(f"adapters have no names in {form!r}", hints=["without `--apart` they are merged"])
    state = weights_of(model) if apart else merged_weights_of(model)
    state = state if form == PLAIN else FORMATS[form](state)
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
