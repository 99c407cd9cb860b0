"""Initial weights, drawn for each parameter by its path: what else is in a model moves no draw of it.

From one stream, a head more would move the draws of all that is made after it, and two runs of one seed would not begin
alike. So a component is made twice: on the meta device, to see which draw ends in which parameter, and then for real,
where each draw has a generator of its own, seeded by the model's seed and the parameter's path.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def drawn_by_path(name: str, make: Callable[[], nn.Module], seed: int | None) -> nn.Module:
    """The module that `make` gives, named `name`, its weights and buffers drawn from `seed` and their paths.

    Draws from torch's global generators are meant; the state in which these are left depends on the module. Without a
    seed they are drawn as they come.
    """
    if seed is None:
        return make()
    with torch.device("meta"), _Origins() as origins:
        paths = origins.paths(make())
    with _Keyed(name, paths, seed):
        return make()


class _Numbered(TorchDispatchMode):
    """Counts the operations that draw from a global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = 0

    def _is_draw(self, func: Any, kwargs: dict[str, Any]) -> bool:
        return torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None


class _Origins(_Numbered):
    """Follows each draw through what is computed of it to the tensors that it ends in."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[int, frozenset[int]] = {}
        self._held: list[Any] = []  # so that no storage takes the place of another that is gone

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_draw = self._is_draw(func, kwargs)
        changed = args[0] if is_draw and func.overloadpacket.__name__.endswith("_") else None
        result = changed if changed is not None else func(*args, **kwargs)  # nothing is there that could be filled
        seen = [
            self._of.get(_identity(tensor), frozenset()) for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)
        ]
        draws = frozenset[int]().union(*seen)
        if is_draw:
            draws |= {self.draws}
            self.draws += 1
        for tensor in tree_leaves(result) if draws else ():
            if _is_tensor(tensor):
                self._held.append(tensor.untyped_storage())
                self._of[_identity(tensor)] = draws
        return result

    def paths(self, module: nn.Module) -> dict[int, str]:
        """The parameter or buffer that each draw ends in; of several the first."""
        paths: dict[int, str] = {}
        for path, tensor in (*module.named_parameters(), *module.named_buffers()):
            for draw in self._of.get(_identity(tensor), ()):
                paths.setdefault(draw, path)
        return paths


class _Keyed(_Numbered):
    """Draws each number with a generator that is seeded by what it ends in; one that ends nowhere by its own number."""

    def __init__(self, name: str, paths: dict[int, str], seed: int) -> None:
        super().__init__()
        self._name, self._paths, self._seed = name, paths, seed
        self._count: dict[str, int] = {}
        # `torch.manual_seed` seeds every device, and notes a traceback for each that is not in use yet: for each draw,
        # that took half the time in which a small model is made.
        is_cpu = torch.get_default_device().type == "cpu"
        self._reseed = torch.default_generator.manual_seed if is_cpu else torch.manual_seed

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._is_draw(func, kwargs):
            path = self._paths.get(self.draws, f"draw {self.draws}")
            self.draws += 1
            self._count[path] = self._count.get(path, 0) + 1
            self._reseed(seed_of(self._seed, f"{self._name}.{path}", self._count[path]))
        return func(*args, **kwargs)


def seed_of(*key: int | str) -> int:
    """A seed that belongs to a key."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=4).digest(), "big")  # as much as torch takes on a CPU


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - on the meta device the public data_ptr is 0 for all
