"""Counting what a forward holds as it runs: what it keeps for its backward, and what is there for a moment."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from compose_vlp.compiler.backward import Backward, Moment, Waiting


class Passing:
    """Storages that functions made and that nothing keeps for a backward; `bytes` are those that are not freed yet."""

    def __init__(self) -> None:
        self.bytes = 0
        self._sizes: dict[int, int] = {}

    def add(self, tensor: Tensor) -> None:
        """Count one until it is given up."""
        key, size = _identity(tensor), tensor.untyped_storage().nbytes()
        if key not in self._sizes:
            self._sizes[key] = size
            self.bytes += size

    def give_up(self, key: int) -> None:
        """Forget one that is freed, or kept from now on."""
        self.bytes -= self._sizes.pop(key, 0)


class KeptBytes(TorchFunctionMode):
    """Within it, `moments` grow by what a forward keeps for its backward; parameters do not count as kept.

    Storages are told apart by identity, so the tensors are held until it is closed.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self.moments: list[Moment] = []
        self._known = {_identity(parameter) for parameter in parameters}
        self._left_out = set[int]()
        self._passing = Passing()
        self._now = self._highest = 0
        self._held: list[Tensor] = []
        self._made: dict[int, int] = {}
        self._clock: Callable[[], int] = lambda: 0
        self.reached = 0
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes that are kept when the forward is done."""
        return self.backward().kept

    def backward(self) -> Backward:
        """Tell what the forward until now held, and its backward will."""
        return Backward(tuple(self.moments), self._highest)

    def add(self, moment: Moment) -> None:
        """Note what the forward did."""
        self.moments.append(moment)
        self._now += moment.kept + moment.rounded
        self._look()

    def leave_out(self, tensor: Tensor) -> None:
        """Count a tensor as little as parameters are counted; somebody else holds it."""
        self._left_out.add(_identity(tensor))

    def waiting_for(self, tensors: Iterable[Tensor]) -> tuple[Waiting, ...]:
        """The gradients of tensors, until the backward comes to where they were made."""
        storages = {_identity(tensor): tensor.untyped_storage().nbytes() for tensor in tensors if tensor.requires_grad}
        return tuple(Waiting(storage, self._made.get(storage, 0), size) for storage, size in storages.items())

    def keep(self, tensors: Iterable[Tensor]) -> int:
        """Hold tensors; gives the bytes of those that were not kept before."""
        kept = 0
        for tensor in tensors:
            storage = _identity(tensor)
            if storage not in self._known and storage not in self._left_out:
                self._known.add(storage)
                self._passing.give_up(storage)
                kept += tensor.untyped_storage().nbytes()
            self._held.append(tensor)
        return kept

    @contextmanager
    def aside(self, clock: Callable[[], int]) -> Iterator[KeptBytes]:
        """Within it, the moments of what is kept go to another count, which leaves out what is kept already.

        That one's `reached` is what the clock says whenever something is kept.
        """
        other = KeptBytes(())
        other._known, other._left_out, other._clock = set(self._known), self._left_out, clock
        other._passing = self._passing
        with other._hooks:
            yield other
        other._held.clear()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        used = tuple(x for x in (*args, *kwargs.values()) if isinstance(x, nn.Parameter) and x.requires_grad)
        if used and torch.is_grad_enabled():
            self.add(Moment(used=used))
        result = func(*args, **kwargs)
        for tensor in (result,) if isinstance(result, Tensor) else pytree.tree_leaves(result):
            if isinstance(tensor, Tensor) and not tensor._is_view():  # noqa: SLF001 (it has no public way)
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = _identity(tensor)
        if storage not in self._made:
            weakref.finalize(tensor.untyped_storage(), self._freed, storage)
        self._made[storage] = len(self.moments)
        if storage not in self._known and storage not in self._left_out:
            self._passing.add(tensor)
            self._look()

    def _freed(self, storage: int) -> None:
        """Forget a storage, since another one may get its identity."""
        self._made.pop(storage, None)
        self._passing.give_up(storage)

    def _look(self) -> None:
        self._highest = max(self._highest, self._now + self._passing.bytes)

    def _pack(self, tensor: Tensor) -> Tensor:
        self.reached = self._clock()
        if kept := self.keep((tensor,)):
            self.add(Moment(kept, passing=kept))
        return tensor

    def __enter__(self) -> KeptBytes:
        self._hooks.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.__exit__(*error)
        self._held.clear()


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001  (on the meta device the public data_ptr is 0 for all)
