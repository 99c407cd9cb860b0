"""Where the weights of a pretrained model lie: one file, or a folder as Hugging Face lays it out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop.files import read_state

WHOLE = ("model.safetensors", "open_clip_model.safetensors")
INDEX = "model.safetensors.index.json"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a weight file, or of the `.safetensors` files of a folder (a pickle has to be named itself).

    Raises:
        UserError: nothing is there, or nothing of tensors alone.
    """
    place = Path(path)
    if not place.is_dir():
        return read_state(place)
    return {name: tensor for file in _files(place) for name, tensor in read_state(file).items()}


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
