"""Where the weights of a pretrained model lie: one file, a folder as Hugging Face lays it out, or a run of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.files import is_folder, written_path
from compose_vlp.interop.files import read_state
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.new_folder import RUN_FILE

WHOLE = ("model.safetensors", "open_clip_model.safetensors")
INDEX = "model.safetensors.index.json"


def read_weights(path: str | Path, inside: str | None = None) -> dict[str, Tensor]:
    """All tensors of a weight file, or of the `.safetensors` files of a folder (a pickle has to be named itself).

    Of a run's folder they are those of its last checkpoint. `inside` is a key of a file that has several states.

    Raises:
        UserError: nothing is there, or nothing of tensors alone.
    """
    place = written_path(path)
    if not is_folder(place):
        return read_state(place, inside)
    if inside is not None:
        raise UserError(
            f"{place} is a folder, and has no key {inside!r}", hints=["`in` belongs to a checkpoint's file"]
        )
    if (place / RUN_FILE).is_file():
        weights: dict[str, Tensor] = checkpoint.load(_last_of_run(place), only=("model",))["model"]
        return weights
    return {name: tensor for file in _files(place) for name, tensor in read_state(file).items()}


def _last_of_run(folder: Path) -> Path:
    last = checkpoint.latest(folder / "checkpoints")
    if last is None:
        raise UserError(f"the run {folder} has no checkpoint yet")
    return last


def _files(folder: Path) -> Iterator[Path]:
    whole = next((folder / name for name in WHOLE if (folder / name).is_file()), None)
    if whole is not None:
        yield whole
        return
    if not (folder / INDEX).is_file():
        others = sorted(
            file.name for file in folder.iterdir() if file.suffix in {".bin", ".pt", ".pth", ".safetensors"}
        )
        raise UserError(
            f"{folder} has none of {', '.join((*WHOLE, INDEX))}",
            hints=[f"name the file: {folder / others[0]}"] if others else [],
        )
    try:
        parts = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{folder / INDEX} is no index of weights: {error}") from error
    for name in sorted(set(parts)):
        if Path(name).name != name:
            raise UserError(f"{folder / INDEX} names a file outside its folder: {name!r}")
        yield folder / name
