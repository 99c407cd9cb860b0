"""Nested state to plain tensors and JSON, and back: nothing that is read again can run code, as a pickle can."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

Json: TypeAlias = Any
Fetch: TypeAlias = Callable[[str, str], torch.Tensor]
"""From a group and a name to the tensor; the same object for the same two."""

_GROUP = re.compile(r"[A-Za-z0-9_-]+")


@dataclass
class Packed:
    """A state taken apart.

    Attributes:
        skeleton: Everything but the tensors, which it names: `{"$tensor": [group, name]}`.
        groups: For each top-level key of the state the tensors below it, on the CPU and contiguous.
    """

    skeleton: dict[str, Json] = field(default_factory=dict)
    groups: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


def pack(state: Mapping[str, Any], *, divided: bool = False) -> Packed:
    """Take a state apart.

    It holds mappings with scalars as keys, lists, tuples, tensors, numpy arrays, strings, numbers, booleans and None.
    numpy's scalars come back as Python's. Entries that are one tensor (tied weights) are stored once and come back as
    one tensor. With `divided`, tensors may be divided among processes, and all of them stay where they are.

    Raises:
        TypeError: Something else is in it; its place is named.
        ValueError: A top-level key cannot be the name of a file.
    """
    packer = _Packer(divided)
    for key, value in state.items():
        if not _GROUP.fullmatch(key):
            raise ValueError(f"top-level key {key!r} becomes the name of a file: letters, digits, `_` and `-` only")
        packer.packed.skeleton[key] = packer.pack(value, (key,))
    return packer.packed


def unpack(skeleton: Json, fetch: Fetch) -> Any:
    """Put together the state that `pack` took apart, or a part of it."""
    if isinstance(skeleton, list):
        return [unpack(item, fetch) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if len(skeleton) == 1:
        (tag, content), *_ = skeleton.items()
        if tag == "$tensor":
            return fetch(*content)
        if tag == "$array":
            return fetch(*content).cpu().numpy()
        if tag == "$tuple":
            return tuple(unpack(item, fetch) for item in content)
        if tag == "$float":
            return float(content)
        if tag == "$map":
            return {unpack(key, fetch): unpack(value, fetch) for key, value in content}
    return {key: unpack(value, fetch) for key, value in skeleton.items()}


class _Packer:
    def __init__(self, divided: bool) -> None:
        self._divided = divided
        self.packed = Packed()
        self._stored: dict[tuple[object, ...], list[str]] = {}
        self._storages: set[int] = set()
        self._originals: list[torch.Tensor] = []  # kept alive: an address that is free again would look like a tie

    def pack(self, value: Any, path: tuple[str, ...]) -> Json:
        if isinstance(value, (np.bool_, np.integer, np.floating)):
            value = value.item()
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._store(value, path)}
        if isinstance(value, np.ndarray) and value.dtype != object:
            return {"$array": self._store(torch.from_numpy(np.array(value)), path)}
        if isinstance(value, list):
            return [self.pack(item, (*path, str(index))) for index, item in enumerate(value)]
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(item, (*path, str(index))) for index, item in enumerate(value)]}
        if isinstance(value, Mapping):
            return self._pack_mapping(value, path)
        raise TypeError(f"a checkpoint cannot hold the {type(value).__name__} at {'.'.join(path)}")

    def _pack_mapping(self, value: Mapping[Any, Any], path: tuple[str, ...]) -> Json:
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: self.pack(item, (*path, key)) for key, item in value.items()}
        pairs = [[self.pack(key, (*path, "<key>")), self.pack(item, (*path, str(key)))] for key, item in value.items()]
        return {"$map": pairs}

    def _store(self, tensor: torch.Tensor, path: tuple[str, ...]) -> list[str]:
        is_divided = self._divided and _is_dtensor(tensor)
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not (plain or is_divided):
            raise TypeError(
                f"a checkpoint cannot hold the {type(tensor).__name__} at {'.'.join(path)}: gather it first"
            )
        if tensor.is_meta:
            raise TypeError(f"the tensor at {'.'.join(path)} is on the meta device: it has no values to keep")
        identity = _identity(tensor)
        if identity in self._stored:
            return self._stored[identity]
        group, tensors = path[0], self.packed.groups.setdefault(path[0], {})
        name = base = ".".join(path[1:]) or "value"
        number = 1
        while name in tensors:  # `a.b` -> `c` and `a` -> `b.c` have one name
            number += 1
            name = f"{base}~{number}"
        tensors[name] = tensor.detach() if self._divided else self._plain(tensor)
        self._originals.append(tensor)
        self._stored[identity] = [group, name]
        return [group, name]

    def _plain(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the CPU, contiguous, and not in one storage with another tensor: safetensors takes no overlaps."""
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        if storage in self._storages:
            plain = plain.clone()
        self._storages.add(plain.untyped_storage().data_ptr())
        return plain


def _is_dtensor(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is divided among processes, without torch's package for these, which is slow to import."""
    return type(tensor).__module__.startswith("torch.distributed.tensor")


def _identity(tensor: torch.Tensor) -> tuple[object, ...]:
    """Equal for two tensors exactly if they are the same values in the same memory."""
    if _is_dtensor(tensor):
        local = tensor.to_local()  # type: ignore[attr-defined]
        # a process whose piece is empty has to find the same ties as the others, and an empty tensor has no address
        return (local.untyped_storage()._cdata, local.storage_offset(), tuple(tensor.shape))  # noqa: SLF001
    if tensor.numel() == 0:
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
