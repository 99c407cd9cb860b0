"""The positions of a tower's result that something reads, for which alone its last layer has to compute."""

from collections.abc import Iterable
from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compose_vlp.values.values import Part


class Run(NamedTuple):
    """Positions that go to one expert."""

    expert: str
    start: int
    stop: int


Reads: TypeAlias = List[List[str | Tensor]]
"""What is read, each as `["cls", part]`, or `["at", part, flat]`: flat positions `[chosen]` of `[batch * positions]` of
a part. The part `""` is the whole."""


@dataclass(frozen=True)
class Chosen:
    """Some of `n` positions, in the order in which a last layer has them.

    `index` is `[k]` where they are those of every row, or `[batch, k]`, where `n` fills up rows that have fewer; `runs`
    are experts by places among these k.
    """

    index: Int[Tensor, "... k"]
    n: int
    runs: tuple[Run, ...]

    def of(self, x: Float[Tensor, "batch n ..."]) -> Float[Tensor, "batch k ..."]:
        """Take the chosen positions of `x`; anything, where a row is filled up."""
        if self.index.dim() == 1:
            return x.index_select(1, self.index)
        index = self.index.clamp(max=self.n - 1)
        return x.gather(1, index.reshape(*index.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))

    def spread(self, x: Float[Tensor, "batch k width"]) -> Float[Tensor, "batch n width"]:
        """These at their places among all, zeros at the others."""
        if self.index.dim() == 1:
            return x.new_zeros(x.shape[0], self.n, x.shape[2]).index_copy(1, self.index, x)
        whole = x.new_zeros(x.shape[0], self.n + 1, x.shape[2])
        return whole.scatter(1, self.index[..., None].expand_as(x), x)[:, : self.n]

    def bias(self, bias: Tensor | None, causal: bool) -> Tensor | None:
        """`[heads, n, m]` for these queries, causality included: `[heads, k, m]` or `[batch, heads, k, m]`."""
        mine = None
        if bias is not None:
            picked = bias[:, self.index.clamp(max=self.n - 1)]
            mine = picked if self.index.dim() == 1 else picked.movedim(0, 1)
        if not causal:
            return mine
        seen = torch.arange(self.n, device=self.index.device) <= self.index[..., None]
        seen = seen if self.index.dim() == 1 else seen[:, None]
        if mine is None:
            return seen
        return mine & seen if mine.dtype == torch.bool else mine.masked_fill(~seen, -torch.inf)


def choose_positions(
    reads: Reads | None, parts: Iterable[Part], x: Float[Tensor, "batch n width"], runs: tuple[Run, ...] = ()
) -> Chosen | None:
    """Choose the positions that `reads` names in a result of these parts; None where all are read.

    Of flat positions on the meta device, where none is known, all of their part count.
    """
    if reads is None:
        return None
    named = {part.name: part for part in parts}
    whole = next(iter(named.values())) if len(named) == 1 else Part("", 0, x.shape[1])
    every, some = set[int](), list[tuple[Part, Tensor]]()
    for how, name, *flat in reads:
        part = named.get(str(name), whole)
        if how == "cls":
            every.add(part.start if part.cls == "first" else part.start + part.length - 1)
        elif x.device.type == "meta":
            every |= set(range(part.start, part.start + part.length))
        else:
            some += [(part, positions) for positions in flat if isinstance(positions, Tensor)]
    runs = runs or (Run("", 0, x.shape[1]),)
    return _of_each_row(every, some, x, runs) if some else _of_every_row(every, x, runs)


def _of_every_row(every: set[int], x: Tensor, runs: tuple[Run, ...]) -> Chosen:
    places, mine = list[int](), list[Run]()
    for run in runs:
        inside = sorted(place for place in every if run.start <= place < run.stop)
        if inside:
            mine.append(Run(run.expert, len(places), len(places) + len(inside)))
        places += inside
    index = torch.tensor(places).to(x.device, non_blocking=True)  # a copy that blocks waits for all that runs before it
    return Chosen(index, x.shape[1], tuple(mine))


def _of_each_row(every: set[int], some: List[tuple[Part, Tensor]], x: Tensor, runs: tuple[Run, ...]) -> Chosen:
    batch, n = x.shape[:2]
    asked = torch.zeros(batch, n, dtype=torch.bool, device=x.device)
    for place in every:
        asked[:, place] = True
    for part, flat in some:
        asked.view(-1).index_fill_(0, flat // part.length * n + flat % part.length + part.start, True)
    pieces, mine, first = list[Tensor](), list[Run](), 0
    for run in runs:
        inside = asked[:, run.start : run.stop]
        count = most_of_a_row(inside)
        if count:
            order = inside.int().argsort(stable=True, dim=1, descending=True)[:, :count]
            pieces.append(torch.where(inside.gather(1, order), order + run.start, n))
            mine.append(Run(run.expert, first, first + count))
            first += count
    if not pieces:  # nothing is read of this batch: one position, which nobody reads
        return Chosen(torch.full((batch, 1), n, device=x.device), n, (Run(runs[0].expert, 0, 1),))
    return Chosen(torch.cat(pieces, 1), n, tuple(mine))


def most_of_a_row(inside: Tensor) -> int:
    """Count the most that a row `[batch, n]` has. It decides shapes, so the host waits for it: once a tower's call."""
    return int(inside.sum(1).max())
