"""What a scene is made of, and how one is drawn at random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from compose_vlp.data.draws import Draws

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "orange": (250, 140, 20),
    "yellow": (235, 215, 40),
    "green": (40, 150, 60),
    "cyan": (70, 200, 215),
    "blue": (40, 70, 205),
    "purple": (140, 50, 165),
    "black": (25, 25, 28),
}
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
RADII = {"small": (0.12, 0.14), "large": (0.20, 0.23)}
"""Bounds of a thing's radius, as a share of the picture's side, in scenes of up to `ROOMY` things."""
ROOMY = 2
MAX_THINGS = 6
REPEATED = 0.4
"""How often a thing beyond the second takes colour and shape of an earlier one, so that there is something to count."""


class Thing(NamedTuple):
    """One object. `x`, `y` (from the top left) and `radius` are shares of the picture's side."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    radius: float


class Scene(NamedTuple):
    """The truth of one picture: its things, its background's grey (0 to 255), and where its grain is cut from."""

    things: tuple[Thing, ...]
    grey: int
    grain: tuple[float, float]

    def count(self, colour: str | None = None, shape: str | None = None) -> int:
        """Count the things that have this colour and this shape (None: any)."""
        return sum(
            (colour is None or thing.colour == colour) and (shape is None or thing.shape == shape)
            for thing in self.things
        )


def box(thing: Thing) -> tuple[float, float, float, float]:
    """Return the square around a thing: left, top, width and height, in shares of the picture's side."""
    return thing.x - thing.radius, thing.y - thing.radius, 2 * thing.radius, 2 * thing.radius


def draw_scene(draws: Draws, fewest: int, most: int) -> Scene:
    """Draw a scene of `fewest` to `most` things that do not cover each other."""
    things: list[Thing] = []
    total = fewest + draws.below(most - fewest + 1)
    crowding = min(1.0, (ROOMY / total) ** 0.5)
    for _ in range(total):
        colour, shape = _looks(draws, things)
        size = draws.pick(tuple(RADII))
        radius = crowding * draws.between(*RADII[size])
        x, y = _free_place(draws, things, radius)
        things.append(Thing(colour, shape, size, x, y, radius))
    return Scene(tuple(things), 205 + draws.below(36), (draws.unit(), draws.unit()))


def _looks(draws: Draws, things: list[Thing]) -> tuple[str, str]:
    """Colour and shape of the next thing: new ones, except where repeating gives something to count."""
    if len(things) >= 2 and draws.chance(REPEATED):
        model = draws.pick(things)
        return model.colour, model.shape
    taken = {(thing.colour, thing.shape) for thing in things}
    while True:
        looks = draws.pick(tuple(COLOURS)), draws.pick(SHAPES)
        if looks not in taken:
            return looks


def _free_place(draws: Draws, things: Iterable[Thing], radius: float) -> tuple[float, float]:
    """Find a centre that keeps clear of the others; of many tries the roomiest, where none is quite free."""
    best, best_room = (0.5, 0.5), -2.0
    for _ in range(40):
        x, y = draws.between(radius, 1 - radius), draws.between(radius, 1 - radius)
        room = min((_distance(x, y, other) - radius - other.radius for other in things), default=1.0)
        if room > 0.02:
            return x, y
        if room > best_room:
            best, best_room = (x, y), room
    return best


def _distance(x: float, y: float, other: Thing) -> float:
    return float(((x - other.x) ** 2 + (y - other.y) ** 2) ** 0.5)
