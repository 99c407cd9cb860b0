"""Random numbers that belong to a key: the same for a record however, wherever and in what order it is read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of random numbers named by `key`.

    Only `random.Random.random` is used below, whose sequence Python promises to keep; and a stream costs microseconds,
    a fifth of numpy's, so that every record can have its own.
    """

    __slots__ = ("unit",)

    def __init__(self, *key: int | str) -> None:
        digest = blake2b(repr(key).encode(), digest_size=16).digest()
        self.unit = random.Random(int.from_bytes(digest, "big")).random
        """The next number in [0, 1)."""

    def below(self, bound: int) -> int:
        """Draw a whole number in [0, bound)."""
        return int(self.unit() * bound)

    def between(self, low: float, high: float) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`, each equally likely."""
        return choices[int(self.unit() * len(choices))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
