"""Stored tensors as processes want them: whole, or the piece of a process, however they were stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

Like: TypeAlias = Callable[[str, torch.Size], Tensor | None]
"""From the name and the shape of a stored tensor to one that is cut as it shall be when it is read; None: whole."""


def read_group(folder: Path, like: Like | None = None) -> dict[str, Tensor]:
    """Read the tensors that several processes wrote: whole, or the pieces of this process.

    Raises:
        SafetensorError: a file is damaged.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    targets: dict[str, Tensor] = {}
    for name, stored in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(stored, TensorStorageMetadata)
        cut = like(name, stored.size) if like is not None else None
        dtype = stored.properties.dtype
        targets[name] = torch.empty(stored.size, dtype=dtype) if cut is None else torch.empty_like(cut, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        load(targets, storage_reader=reader, no_dist=True)
    return targets


def cut_like(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Keep this process's piece of a whole tensor, as another one is cut; all of it, where that is not."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return tensor
    own = tensor.to(like.device)
    return distribute_tensor(own, like.device_mesh, like.placements, src_data_rank=None)
