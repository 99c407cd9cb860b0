"""Where boxes stand along their layer: near their neighbours, in order, and never on each other.

Each layer is a least-squares problem, "as near as possible to the wished places, at least so far apart", which the
pool-adjacent-violators algorithm solves exactly; sweeping over the layers lets them settle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SWEEPS: Final = 200


@dataclass(frozen=True)
class Extent:
    """How far a box reaches to the left and right of its axis."""

    left: float
    right: float


def place(
    layers: Sequence[Sequence[str]],
    links: Mapping[str, Sequence[tuple[str, float]]],
    extents: Mapping[str, Extent],
    gap: float,
) -> dict[str, float]:
    """Choose the x of every box's axis; `links` gives each box's neighbours with the weight of staying near them."""
    x: dict[str, float] = {}
    for layer in layers:
        _settle(layer, dict.fromkeys(layer, 0.0), dict.fromkeys(layer, 1.0), extents, gap, x)
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            _pull(layer, links, extents, gap, x, straighten=sweep > SWEEPS // 4)
    leftmost = min((x[box] - extents[box].left for box in x), default=0.0)
    return {box: value - leftmost for box, value in x.items()}


def _pull(
    layer: Sequence[str],
    links: Mapping[str, Sequence[tuple[str, float]]],
    extents: Mapping[str, Extent],
    gap: float,
    x: dict[str, float],
    *,
    straighten: bool,
) -> None:
    """Move a layer towards its neighbours.

    `straighten` weighs a link by the inverse of how far it leans (iteratively reweighted least squares): what is
    lowered then is the sum of the leanings, not of their squares, so that one bend is as cheap as many small ones.
    """
    wishes, weights = {}, {}
    for box in layer:
        near = links.get(box, ())
        if straighten:
            near = [(other, weight / max(abs(x[other] - x[box]), 1.0)) for other, weight in near]
        weights[box] = sum(weight for _, weight in near) or 0.01
        wishes[box] = sum(x[other] * weight for other, weight in near) / weights[box] if near else x[box]
    _settle(layer, wishes, weights, extents, gap, x)


def _settle(
    layer: Sequence[str],
    wishes: Mapping[str, float],
    weights: Mapping[str, float],
    extents: Mapping[str, Extent],
    gap: float,
    x: dict[str, float],
) -> None:
    """Put a layer's boxes as near to their wishes as their order and size allow."""
    offsets, at = [], 0.0
    for left, right in zip(["", *layer], layer, strict=False):
        at += extents[left].right + gap + extents[right].left if left else 0.0
        offsets.append(at)
    wished = [wishes[box] - offset for box, offset in zip(layer, offsets, strict=True)]
    for box, offset, value in zip(layer, offsets, isotonic(wished, [weights[b] for b in layer]), strict=True):
        x[box] = value + offset


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Find the non-decreasing sequence nearest to `values` in weighted squares."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, heavy, length = blocks.pop()
            other, light, count = blocks.pop()
            blocks.append(((mean * heavy + other * light) / (heavy + light), heavy + light, length + count))
    return [mean for mean, _, length in blocks for _ in range(length)]
