"""Which steps of each metric MLflow has: 8 bytes a step, so that a million of them cost nothing."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable


class Seen:
    """For each key the set of its steps, sorted. Steps mostly come in order, which is the fast path."""

    def __init__(self) -> None:
        self._steps: dict[str, array[int]] = {}

    def knows(self, key: str) -> bool:
        """Tell whether the steps of `key` have been learnt, be they none."""
        return key in self._steps

    def learn(self, key: str, steps: Iterable[int]) -> None:
        """Replace what is known of `key`."""
        self._steps[key] = array("q", sorted(set(steps)))

    def forget(self, keys: Iterable[str]) -> None:
        """Doubt what is known of these keys."""
        for key in keys:
            self._steps.pop(key, None)

    def has(self, key: str, step: int) -> bool:
        steps = self._steps.get(key)
        if not steps or step > steps[-1]:
            return False
        return steps[bisect_left(steps, step)] == step

    def add(self, key: str, step: int) -> None:
        steps = self._steps.setdefault(key, array("q"))
        if not steps or step > steps[-1]:
            steps.append(step)
            return
        place = bisect_left(steps, step)
        if steps[place] != step:
            steps.insert(place, step)
