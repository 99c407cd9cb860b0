"""Auxiliary losses: what a component, or an inner part of one, wants lowered beside what is made of its result.

A kind declares them by the settings that are their weights, and its class extends `Auxiliary`:

    @fills("moe", slot="ffn", auxiliary=("balance",), rows="independent", state="none", draws="none")
    class MoE(Auxiliary):
        class Config(Settings):
            balance: float = Field(0.01, ge=0, description="weight of the loss that ...")

        def forward(self, x):
            ...
            self.add(share=share, probability=probability)        # each [batch, n] or [batch, n, any]

        def losses(self, means):
            return {"balance": (means["share"] * means["probability"]).sum()}

Where a stage trains the component `vision`, the loss joins its total under the name of its weight's setting,
`vision.ffn.balance`; a weight of 0 leaves it out. `means` are over all positions of the step that are no padding: of
every call by the student, all rows and pieces of the batch, and all processes. So a loss that is no mean itself, such
as a product of means, is that of the whole step, however its calls were merged or its batch was cut. Each module of
the component has losses of its own, which are added up. Nothing is computed in a teacher's calls, nor where a model is
evaluated.

The compiler writes `visual, visual_terms = with_terms(m.vision, image)` in place of the call, and at the end of the
program `auxiliary(m.vision, 'moe', 'balance', [visual_terms])`.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as List
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compose_vlp import registry
from compose_vlp.errors import UserError
from compose_vlp.kind_reader import placed
from compose_vlp.values import Scalar, Sequence
from compose_vlp.values.processes import all_rows_with_gradient, together

Terms: TypeAlias = dict[str, dict[str, tuple[Tensor, Tensor]]]
"""Of each module, by its path in the component, each term that it added, summed over the positions of a row
`[rows, ...]`, and the number of these positions `[rows]`."""


class Auxiliary(nn.Module):
    """Base of kinds that have auxiliary losses."""

    def add(self, **terms: Tensor) -> None:
        """Hand over what this call's positions have to say, each `[batch, n]` or `[batch, n, any]`.

        Raises:
            TypeError: a term has no positions.
        """
        call = _CALL.get()
        if call is None:
            return
        for name, term in terms.items():
            if term.dim() not in (2, 3):
                raise TypeError(f"the term {name!r} is {list(term.shape)}: [batch, n] or [batch, n, any] is expected")
        call.added.append((self, terms, call.window))

    @property
    def is_read(self) -> bool:
        """Does anyone read what `add` is given in this call? Else it need not be computed."""
        return _CALL.get() is not None

    def losses(self, means: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Give the losses by name, from each term's mean over a step's positions; here, the means of those names."""
        return means


@dataclass
class _Call:
    """A call of a component, while it runs."""

    added: list[tuple[Auxiliary, dict[str, Tensor], slice]] = field(default_factory=list)
    window: slice = field(default_factory=lambda: slice(None))


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


@contextmanager
def window(start: int, stop: int) -> Iterator[None]:
    """Within it, modules are given only these positions of the component's own."""
    call = _CALL.get()
    if call is None:
        yield
        return
    before, call.window = call.window, slice(start, stop)
    try:
        yield
    finally:
        call.window = before


@contextmanager
def unheard() -> Iterator[None]:
    """Within it, what modules add goes nowhere, and is made where it was made before: for a layer that runs again."""
    token = _CALL.set(None if _CALL.get() is None else _Call())
    try:
        yield
    finally:
        _CALL.reset(token)


def with_terms(component: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Terms]:
    """Call a component; gives its result and what its modules added meanwhile, padding left out.

    Raises:
        UserError: terms stand at other positions than the result.
    """
    call = _Call()
    token = _CALL.set(call)
    try:
        result = component(*args, **kwargs)
    finally:
        _CALL.reset(token)
    paths = {id(module): path for path, module in component.named_modules() if isinstance(module, Auxiliary)}
    terms: Terms = {}
    for module, added, place in call.added:
        valid = _valid(result, place)
        for name, term in added.items():
            with placed(type(module)):
                summed = _over_positions(term, valid, f"the class {type(module).__name__} adds {name!r}")
            _put(terms.setdefault(paths[id(module)], {}), name, summed)
    return result, terms


def auxiliary(component: nn.Module, kind: str, name: str, calls: List[Terms]) -> Scalar:
    """Compute a loss of all modules of a kind in a component, of what they added in these calls, in all processes.

    Raises:
        UserError: the modules do not give the loss that their kind declares.
    """
    sums: Terms = {}
    for terms in calls:
        for path, added in terms.items():
            for term, (total, count) in added.items():
                _put(sums.setdefault(path, {}), term, (total.sum(0), count.sum(0)))
    sums = _in_all_processes(sums)
    modules = {path: component.get_submodule(path) for path in sums}
    losses = [
        _loss(module, name, {term: total / count.clamp(min=1) for term, (total, count) in sums[path].items()})
        for path, module in modules.items()
        if isinstance(module, Auxiliary) and getattr(module, "kind_name", "") == kind
    ]
    if not losses:
        with placed(registry.get(kind).implementation):
            raise UserError(f"the kind {kind!r} declares the loss {name!r}, and never calls `add`")
    return Scalar(torch.stack(losses).sum())


def _put(known: dict[str, tuple[Tensor, Tensor]], name: str, more: tuple[Tensor, Tensor]) -> None:
    """Add to the sum and the count of a term."""
    total, count = known.get(name, (0, 0))
    known[name] = (total + more[0], count + more[1])


def _loss(module: Auxiliary, name: str, means: Mapping[str, Tensor]) -> Tensor:
    losses = module.losses(means)
    if name not in losses:
        given, kind = ", ".join(losses) or "none", getattr(module, "kind_name", "")
        with placed(type(module)):
            raise UserError(f"the kind {kind!r} declares the loss {name!r}, and its losses are {given}")
    return losses[name]


def _valid(result: Any, place: slice) -> Tensor | None:
    valid = result.valid if isinstance(result, Sequence) else None
    return None if valid is None else valid[:, place]


def _over_positions(term: Tensor, valid: Tensor | None, what: str) -> tuple[Tensor, Tensor]:
    """Sum `[batch, n, ...]` over positions to `[batch, ...]`, and count them, `[batch]`."""
    if valid is None:
        return term.sum(1), term.new_full((len(term),), term.shape[1])
    if term.shape[:2] != valid.shape:
        raise UserError(f"{what} at {list(term.shape[:2])} positions, and the result has {list(valid.shape)}")
    hidden = ~valid if term.dim() == 2 else ~valid[..., None]
    return term.masked_fill(hidden, 0).sum(1), valid.sum(1).to(term.dtype)


def _in_all_processes(sums: Terms) -> Terms:
    """Added up over the processes; gradients flow back to the process that a term came from."""
    if not together():
        return sums
    leaves, structure = pytree.tree_flatten(sums)
    flat = torch.cat([leaf.flatten() for leaf in leaves])
    pieces = all_rows_with_gradient(flat[None]).sum(0).split([leaf.numel() for leaf in leaves])
    whole: Terms = pytree.tree_unflatten(
        [piece.view_as(leaf) for piece, leaf in zip(pieces, leaves, strict=True)], structure
    )
    return whole
