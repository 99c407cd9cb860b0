"""What a step holds beside weights and moments, moment by moment, as its backward goes the forward's way back.

What was kept last is given up first, and a weight has its gradient from where it was used last. So the most that both
take together is less than their sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn


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
    of a tower add before it is passed on. `rounded` are copies of weights that are there until the forward ends, and
    that nothing keeps for the backward.
    """

    kept: int = 0
    used: tuple[nn.Parameter, ...] = ()
    passing: int = 0
    waiting: tuple[Waiting, ...] = ()
    rounded: int = 0


def no_gradient(_: nn.Parameter) -> int:
    """Leave gradients of weights out."""
    return 0


def nothing_else(_: nn.Parameter) -> None:
    """Say that nothing is there beside what a step holds."""


def whole_gradient(parameter: nn.Parameter) -> int:
    """Count the bytes of a gradient that stays as it is made."""
    return parameter.nbytes


@dataclass(frozen=True)
class Backward:
    """A step's moments, in the order of its forward, and the most bytes that were there while that ran."""

    moments: tuple[Moment, ...] = ()
    forward: int = 0

    @property
    def kept(self) -> int:
        """Bytes that are kept when the forward is done."""
        return sum(moment.kept for moment in self.moments)

    def most(
        self,
        gradient: Callable[[nn.Parameter], int] = no_gradient,
        beside: Callable[[nn.Parameter], int | None] = nothing_else,
    ) -> int:
        """Bytes that are there at most: what is still kept, what passes, and of each weight passed its `gradient`.

        Where the backward comes to a weight, `beside` says what is there beside all this from now on, or None, if that
        is what it was.
        """
        held, made, seen, other = self.kept, 0, set[int](), 0
        highest, waiting = max(held, self.forward), set[Waiting]()
        for number, moment in reversed(list(enumerate(self.moments))):
            for parameter in moment.used:
                there = beside(parameter)
                other = other if there is None else there
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    made += gradient(parameter)
            waiting = {each for each in (*waiting, *moment.waiting) if each.made <= number}
            passing = moment.passing + sum(each.bytes for each in waiting)
            highest = max(highest, held + made + passing + other)
            held -= moment.kept
        return highest
