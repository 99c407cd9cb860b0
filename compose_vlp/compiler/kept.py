"""Counting what a step holds beside weights and moments: what its forward keeps, and the gradients its backward makes.

A backward goes the forward's way back: what was kept last is given up first, and a weight has its gradient from where
it was used last. So the most that both take together is less than their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode


class Waiting(NamedTuple):
    """The gradient of a tensor that was made at a moment of the forward, where it is passed on: `bytes` until then."""

    storage: int
    made: int
    bytes: int


class Moment(NamedTuple):
    """Something that a forward did, as its backward will see it.

    `kept` are bytes kept from here on, `used` parameters that have a gradient once the backward has come here,
    `passing` bytes that are there only while the backward is here: the gradient of what was kept, or all that a layer
    makes which runs again. `waiting` are gradients that are there from here on: those of contexts, to which all layers
    of a tower add before it is passed on.
    """

    kept: int = 0
    used: tuple[nn.Parameter, ...] = ()
    passing: int = 0
    waiting: tuple[Waiting, ...] = ()


class KeptBytes(TorchFunctionMode):
    """Within it, `moments` grow by what a forward keeps for its backward; parameters do not count as kept.

    Storages are told apart by identity, so the tensors are held until it is closed.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self.moments: list[Moment] = []
        self._known = {_identity(parameter) for parameter in parameters}
        self._held: list[Tensor] = []
        self._made: dict[int, int] = {}
        self._clock: Callable[[], int] = lambda: 0
        self.reached = 0
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes that are kept when the forward is done."""
        return sum(moment.kept for moment in self.moments)

    def most(self, *, gradients: bool) -> int:
        """Bytes that are there at most in the backward: what is still kept, what passes, and `gradients`, if asked."""
        held, made, seen = self.total, 0, set[int]()
        highest, waiting = held, set[Waiting]()
        for number, moment in reversed(list(enumerate(self.moments))):
            for parameter in moment.used if gradients else ():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    made += parameter.nbytes
            waiting = {each for each in (*waiting, *moment.waiting) if each.made <= number}
            highest = max(highest, held + made + moment.passing + sum(each.bytes for each in waiting))
            held -= moment.kept
        return highest

    def waiting_for(self, tensors: Iterable[Tensor]) -> tuple[Waiting, ...]:
        """The gradients of tensors, until the backward comes to where they were made."""
        storages = {_identity(tensor): tensor.untyped_storage().nbytes() for tensor in tensors if tensor.requires_grad}
        return tuple(Waiting(storage, self._made.get(storage, 0), size) for storage, size in storages.items())

    def keep(self, tensors: Iterable[Tensor]) -> int:
        """Hold tensors; gives the bytes of those that were not kept before."""
        kept = 0
        for tensor in tensors:
            storage = _identity(tensor)
            if storage not in self._known:
                self._known.add(storage)
                kept += tensor.untyped_storage().nbytes()
            self._held.append(tensor)
        return kept

    @contextmanager
    def aside(self, clock: Callable[[], int]) -> Iterator[KeptBytes]:
        """Within it, what is kept goes to another count, which leaves out what is kept already.

        That one's `reached` is what the clock says whenever something is kept.
        """
        other = KeptBytes(())
        other._known, other._clock = set(self._known), clock
        with other._hooks:
            yield other
        other._held.clear()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        used = tuple(x for x in (*args, *kwargs.values()) if isinstance(x, nn.Parameter) and x.requires_grad)
        if used and torch.is_grad_enabled():
            self.moments.append(Moment(used=used))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and not result._is_view():  # noqa: SLF001 (it has no public way)
            self._made[_identity(result)] = len(self.moments)
        return result

    def _pack(self, tensor: Tensor) -> Tensor:
        self.reached = self._clock()
        if kept := self.keep((tensor,)):
            self.moments.append(Moment(kept, passing=kept))
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
