"""Reading other implementations' weight files. Nothing in a file is run: pickles hold tensors, or are refused."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.files import written_path

WRAPPERS = ("state_dict", "model")
"""Keys under which training checkpoints keep the weights."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch one (a state dict, or a checkpoint that holds one).

    The prefix `module.` of distributed training is taken off.

    Raises:
        UserError: no such file, or not one of tensors.
    """
    file = written_path(path)
    if not file.is_file():
        raise UserError(f"no file {str(file)!r}")
    if file.suffix == ".safetensors":
        return _safetensors(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} holds no plain tensors: {first}") from error
    return unwrapped(content, str(file))


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is no safetensors file: {error}") from error


def unwrapped(content: object, where: str = "the checkpoint") -> dict[str, Tensor]:
    """The state dict in a checkpoint, without the prefix of distributed training.

    Raises:
        UserError: there is none.
    """
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{where} holds no state dict")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
