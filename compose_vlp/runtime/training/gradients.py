"""The gradients of one step's batch: in one go, or in pieces where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from compose_vlp.compiler.accumulation import Pieces
from compose_vlp.compiler.model import Step
from compose_vlp.compiler.source import Program
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.state import generators
from compose_vlp.runtime.training.engine import Engine
from compose_vlp.values import Scalar

Batch: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Losses:
    """The losses of a step over all processes, by name, and their weighted sum."""

    values: Mapping[str, float]
    total: float


class Gradients(Protocol):
    """Gives the parameters the gradient of the weighted sum of the losses of the global batch, of which `batch` is this
    process's part; `weights` are those of the losses.
    """

    def __call__(self, batch: Batch, weights: Mapping[str, float], step: Step) -> Losses: ...


@dataclass(frozen=True)
class InOneGo:
    """One forward and one backward over the whole batch."""

    engine: Engine
    program: Program
    processes: Processes
    autocast: Callable[[], AbstractContextManager[None]]

    def __call__(self, batch: Batch, weights: Mapping[str, float], step: Step) -> Losses:
        with self.autocast():
            losses: dict[str, Scalar] = self.engine(self.program, batch, step)
        means = Means(self.processes, weights, {name: _terms(loss) for name, loss in losses.items()})
        means.minimise({name: (loss, 1.0) for name, loss in losses.items()})
        return means.losses()


@dataclass(frozen=True)
class InPieces:
    """The same numbers from `count` pieces of the batch, one after the other: see `compose_vlp.compiler.accumulation`.

    Both passes over a piece draw the same noise: each piece of each step has a seed of its own.
    """

    engine: Engine
    pieces: Pieces
    count: int
    processes: Processes
    autocast: Callable[[], AbstractContextManager[None]]

    def __call__(self, batch: Batch, weights: Mapping[str, float], step: Step) -> Losses:
        parts = [_cut(batch, number, self.count) for number in range(self.count)]
        with _own_noise() as seed:
            with torch.no_grad():
                made = [self._run(self.pieces.first, part, step, seed + i) for i, part in enumerate(parts)]
            handed = {f"@{name}": _join([results[f"@{name}"] for results in made]) for name in self.pieces.kept}
            leaves = {name: _leaves(handed[f"@{name}"]) for name in self.pieces.followed}
            with self._more_to_come(self.pieces.again is not None):
                mixed = self._run(self.pieces.mixing, {**batch, **handed}, step, seed + self.count)
                means = Means(self.processes, weights, self._counts(mixed, made))
                means.minimise({name: (loss, 1.0) for name, loss in mixed.items()})
            for number, part in enumerate(parts if self.pieces.again is not None else ()):
                with self._more_to_come(number + 1 < self.count):
                    self._again(means, part, step, leaves, number, seed)
        return means.losses()

    def _run(self, program: Program | None, batch: Batch, step: Step, seed: int) -> dict[str, Any]:
        if program is None:
            return {}
        torch.manual_seed(seed)
        with self.autocast():
            return self.engine(program, batch, step)

    def _again(
        self,
        means: Means,
        part: Batch,
        step: Step,
        leaves: Mapping[str, Sequence[Tensor]],
        number: int,
        seed: int,
    ) -> None:
        """Go through a piece with gradients: from its losses, and from what the mixing part read of it."""
        again, keys = self.pieces.again, [f"@{name}" for name in leaves]
        assert again is not None

        def learning(root: Any, batch: Batch, step: Step) -> dict[str, Any]:
            """Leave out what the backward does not begin at: an engine waits for the gradients of all that it sees."""
            values = again(root, batch, step)
            pairs = [pair for key in keys for pair in self._followed(values[key], leaves[key[1:]], number)]
            known.extend(gradient for _, gradient in pairs)
            return {**{name: values[name] for name in self.pieces.terms}, "@": [tensor for tensor, _ in pairs]}

        known: list[Tensor] = []
        values = self._run(learning, part, step, seed + number)
        losses = {name: (values[name], 1 / self.count) for name in self.pieces.terms}
        means.minimise(losses, list(zip(values["@"], known, strict=True)))

    def _more_to_come(self, more: bool) -> AbstractContextManager[Any]:
        return self.engine.more_to_come() if more else nullcontext()

    def _counts(self, mixed: Mapping[str, Scalar], made: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Count the terms of each loss in this process, over all its pieces."""
        counts = {name: _terms(loss) for name, loss in mixed.items()}
        for name, key in self.pieces.terms.items():
            counts[name] = float(sum(len(results[key]) for results in made)) if key else 1.0
        return counts

    def _followed(self, value: Any, leaves: Sequence[Tensor], number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pair a piece's values with the gradients that the mixing part gave to them."""
        for tensor, leaf in zip(_floats(value), leaves, strict=True):
            if tensor.requires_grad and leaf.grad is not None:
                yield tensor, leaf.grad.chunk(self.count)[number]


class Means:
    """Means over the terms of all processes and pieces, from means and counts of each.

    `counts` are this process's terms of each loss, over all its pieces.
    """

    def __init__(self, processes: Processes, weights: Mapping[str, float], counts: Mapping[str, float]) -> None:
        self._processes, self._weights, self._counts = processes, weights, counts
        self._totals = dict(zip(counts, processes.total(list(counts.values())), strict=True))
        self._sums = dict.fromkeys(counts, 0.0)
        self._seen = dict.fromkeys(counts, 0.0)

    def minimise(self, losses: Mapping[str, tuple[Scalar, float]], more: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        """Go backward from losses, each with the share of this process's rows that it is of, and from `more` tensors
        whose gradients are known."""
        own = [self._term(name, loss, rows) for name, (loss, rows) in losses.items()]
        roots = ([torch.stack(own).sum()] if own else []) + [tensor for tensor, _ in more]
        known = ([torch.ones_like(roots[0])] if own else []) + [gradient for _, gradient in more]
        if roots:
            torch.autograd.backward(roots, known)

    def losses(self) -> Losses:
        """Average the losses over all processes.

        Raises:
            TypeError: a loss has not as many terms as its `selects` says.
        """
        for name, count in self._counts.items():
            if abs(self._seen[name] - count) > 0.5:
                raise TypeError(f"the loss {name} counts {self._seen[name]:.0f} terms, and `selects` names {count:.0f}")
        sums = self._processes.total([self._sums[name] for name in self._counts])
        values = {name: total / max(self._totals[name], 1e-9) for name, total in zip(self._counts, sums, strict=True)}
        return Losses(values, sum(self._weights[name] * value for name, value in values.items()))

    def _term(self, name: str, loss: Scalar, rows: float) -> Tensor:
        count = rows if loss.count is None else float(loss.count)
        self._seen[name] += count
        self._sums[name] += count * float(loss.value.detach())
        share = self._processes.world * count / max(self._totals[name], 1e-9)
        return self._weights[name] * share * loss.value.float()


def _terms(loss: Scalar) -> float:
    return 1.0 if loss.count is None else float(loss.count)


def _cut(batch: Batch, number: int, count: int) -> dict[str, Any]:
    """One of `count` equal pieces of a batch's rows."""
    return {
        name: pytree.tree_map_only(Tensor, lambda tensor: tensor.chunk(count)[number], value)
        for name, value in batch.items()
    }


def _join(values: Sequence[Any]) -> Any:
    """Join the pieces of a value, one after the other; all that is no tensor is the same in each."""
    leaves, structures = zip(*(pytree.tree_flatten(value) for value in values), strict=True)
    joined = [torch.cat(pieces) if isinstance(pieces[0], Tensor) else pieces[0] for pieces in zip(*leaves, strict=True)]
    return pytree.tree_unflatten(joined, structures[0])


def _leaves(value: Any) -> list[Tensor]:
    """Its tensors that may have gradients, made to collect them."""
    return [tensor.requires_grad_() for tensor in _floats(value)]


def _floats(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


@contextmanager
def _own_noise() -> Iterator[int]:
    """Draw a seed for this step; all generators go on afterwards as if nothing else had been drawn."""
    seed = int(torch.randint(2**62, ()))
    state = generators.capture()
    try:
        yield seed
    finally:
        generators.restore(state)
