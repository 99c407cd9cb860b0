"""Scenes as pixels: cached, anti-aliased stamps of shapes, laid on a grainy background."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from compose_vlp.data.scenes.world import COLOURS, Scene, Thing

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]
FINE = 4
"""Sub-pixels a side in a stamp's coverage."""
INKS = {name: np.asarray(levels, np.float32) for name, levels in COLOURS.items()}
STEPS = 128
"""Radii are rounded to this fraction of half a picture, so that few stamps serve all pictures."""


def paint(scene: Scene, size: int) -> Pixels:
    """Paint the picture of a scene, RGB `[size, size, 3]`; the same scene at any size."""
    canvas = _background(scene, size)
    for thing in scene.things:
        _lay(canvas, thing)
    return canvas


def _background(scene: Scene, size: int) -> Pixels:
    grain = _grain(size)
    room = grain.shape[0] - size
    top, left = int(scene.grain[0] * room), int(scene.grain[1] * room)
    plane = grain[top : top + size, left : left + size] + np.uint8(scene.grey)
    return np.repeat(plane, 3, axis=1).reshape(size, size, 3)


@lru_cache(maxsize=8)
def _grain(size: int) -> Pixels:
    """Make a sheet of noise of 0 to 14 grey levels; each picture cuts its background from another place of it."""
    return np.random.default_rng(0).integers(0, 15, (2 * size, 2 * size), dtype=np.uint8)


def _lay(canvas: Pixels, thing: Thing) -> None:
    size = canvas.shape[0]
    stamp = _stamp(thing.shape, max(1, round(thing.radius * 2 * STEPS)), size)
    reach = stamp.shape[0] // 2
    row, column = int(thing.y * size), int(thing.x * size)
    top, left = max(0, row - reach), max(0, column - reach)
    bare = stamp[top - row + reach : size - row + reach, left - column + reach : size - column + reach]
    under = canvas[top : top + bare.shape[0], left : left + bare.shape[1]]
    colour = INKS[thing.colour]
    under[...] = (under - colour) * bare + colour


@lru_cache(maxsize=512)
def _stamp(shape: str, radius_step: int, size: int) -> NDArray[np.float32]:
    """Compute the share of each pixel that a shape leaves bare, `[side, side, 1]`."""
    radius = radius_step * size / (2 * STEPS)
    reach = ceil(radius)
    side = (2 * reach + 1) * FINE
    axis = ((np.arange(side) + 0.5) / FINE - reach - 0.5) / radius
    covered = INSIDE[shape](axis[None, :], axis[:, None]).reshape(side // FINE, FINE, side // FINE, FINE)
    bare: NDArray[np.float32] = (1 - covered.mean((1, 3), dtype=np.float32))[..., None]
    return bare


def _circle(x: Plane, y: Plane) -> NDArray[np.bool_]:
    return np.asarray(x**2 + y**2 <= 1)


def _square(x: Plane, y: Plane) -> NDArray[np.bool_]:
    return np.maximum(abs(x), abs(y)) <= 0.85


def _triangle(x: Plane, y: Plane) -> NDArray[np.bool_]:
    return np.asarray((y <= 0.8) & (y >= 1.8 * abs(x) - 1))


def _cross(x: Plane, y: Plane) -> NDArray[np.bool_]:
    return (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1)


def _star(x: Plane, y: Plane) -> NDArray[np.bool_]:
    """Five points: within each wedge of a fifth the edge runs straight from a point to a notch."""
    angle = np.arctan2(x, -y) % (2 * np.pi / 5)
    from_point = np.minimum(angle, 2 * np.pi / 5 - angle)
    notch, half = 0.42, np.pi / 5
    edge = notch * np.sin(half) / (notch * np.sin(half - from_point) + np.sin(from_point))
    return np.asarray(np.hypot(x, y) <= edge)


def _ring(x: Plane, y: Plane) -> NDArray[np.bool_]:
    return np.asarray(abs(np.hypot(x, y) - 0.78) <= 0.22)


INSIDE: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "ring": _ring,
}
