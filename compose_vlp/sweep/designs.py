"""Designs: which combinations of levels are trained.

A fraction of resolution V takes two-level factors and leaves every main effect and every interaction of two factors
free of each other (Box and Hunter 1961): what is mixed up with them are interactions of three factors and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.sweep.document import Factor, Sweep

Levels: TypeAlias = Mapping[str, str]
"""The level of each factor, by its name."""

RESOLUTION = 5
FEWEST = 5
"""Factors of a fraction: of four, no half is of resolution V."""
MOST = 16
MOST_CELLS = 2000
_TRIES = 200_000
"""Columns that are tried for one size of a fraction; up to eleven factors, the smallest known fractions are found."""


def combinations_of(sweep: Sweep) -> list[Levels]:
    """The cells of a design that is known beforehand, the baseline first, without those that are left out.

    Raises:
        BlueprintError: a design that these factors do not allow, or one whose baseline is left out.
    """
    _judge(sweep)
    cells = [levels for levels in _all(sweep) if not left_out(sweep, levels)]
    baseline = baseline_of(sweep.factors)
    if baseline not in cells:
        raise _refused(sweep, "leave_out", "the baseline is left out", "it has the first level of each factor")
    return [baseline, *(levels for levels in cells if levels != baseline)]


def omitted(sweep: Sweep) -> list[Levels]:
    """The cells of the design that are left out."""
    return [levels for levels in _all(sweep) if left_out(sweep, levels)]


def baseline_of(factors: Sequence[Factor]) -> Levels:
    """The first level of each factor."""
    return {factor.name: factor.levels[0].name for factor in factors}


def left_out(sweep: Sweep, levels: Levels) -> bool:
    """Is this cell one of those that `leave_out` describes?"""
    return any(all(levels[factor] in names for factor, names in rule.items()) for rule in sweep.leave_out)


def name_of(sweep: Sweep, levels: Levels) -> str:
    """A cell's name: the levels in which it is not the baseline."""
    baseline = baseline_of(sweep.factors)
    changed = [f"{name}={level}" for name, level in levels.items() if level != baseline[name]]
    return ", ".join(changed) or "baseline"


def generators(factors: int) -> tuple[int, ...]:
    """The words that define the smallest fraction of resolution V that is found; none where there is no fraction.

    A word is the bit set of factors whose product is the same in all cells. Word number `i` of `p` makes factor
    `factors - p + i` the product of its others.
    """
    tried = (_words(factors - added, added) for added in range(factors - FEWEST + 1, 0, -1))
    return next((words for words in tried if words is not None), ())


def _words(basic: int, added: int) -> tuple[int, ...] | None:
    """`added` words over `basic` factors, such that no product of them has fewer than five factors.

    Backtracking over columns in ascending order: their order among each other says nothing.
    """
    columns = [mask for mask in range(1, 1 << basic) if mask.bit_count() >= RESOLUTION - 1]
    tries = 0

    def extend(words: tuple[int, ...], group: tuple[int, ...], first: int) -> tuple[int, ...] | None:
        nonlocal tries
        if len(words) == added:
            return words
        for number in range(first, len(columns)):
            tries += 1
            if tries > _TRIES:
                return None
            word = columns[number] | 1 << (basic + len(words))
            products = tuple(word ^ other for other in group)
            if all(mask.bit_count() >= RESOLUTION for mask in products):
                completed = extend((*words, word), (*group, *products), number + 1)
                if completed is not None:
                    return completed
        return None

    return extend((), (0,), 0)


def _all(sweep: Sweep) -> Iterator[Levels]:
    factors = sweep.factors
    if sweep.design == "one_at_a_time":
        baseline = baseline_of(factors)
        yield baseline
        for factor in factors:
            for level in factor.levels[1:]:
                yield {**baseline, factor.name: level.name}
    elif sweep.design == "fraction":
        yield from _fraction(factors)
    else:
        for chosen in product(*([level.name for level in factor.levels] for factor in factors)):
            yield dict(zip([factor.name for factor in factors], chosen, strict=True))


def _fraction(factors: Sequence[Factor]) -> Iterator[Levels]:
    """The baseline, and all cells whose changed factors have an even number in common with every word."""
    words = generators(len(factors))
    basic = len(factors) - len(words)
    for setting in range(1 << basic):
        chosen = setting
        for number, word in enumerate(words):
            chosen |= ((setting & word).bit_count() % 2) << (basic + number)
        yield {factor.name: factor.levels[chosen >> bit & 1].name for bit, factor in enumerate(factors)}


def _judge(sweep: Sweep) -> None:
    drawn = [factor for factor in sweep.factors if factor.range is not None]
    if drawn:
        hint = "a search draws from ranges: `design: {use: search, trials: 20, objective: ...}`"
        message = "`{}` is a range, and design `{}` takes levels"
        problems = [Problem(message.format(factor.name, sweep.design), factor.key.span, (hint,)) for factor in drawn]
        raise BlueprintError(problems, sweep.lines)
    if sweep.design == "fraction":
        _judge_fraction(sweep)
    count = prod(len(factor.levels) for factor in sweep.factors)
    if sweep.design == "grid" and count > MOST_CELLS:
        hint = "`one_at_a_time`, or a `fraction`"
        raise _refused(sweep, "design", f"a grid of {count:,} cells; {MOST_CELLS:,} are the most", hint)


def _judge_fraction(sweep: Sweep) -> None:
    many = [factor for factor in sweep.factors if len(factor.levels) != 2]
    if many:
        hint = "leave levels out, or take `grid` or `one_at_a_time`"
        message = "factor `{}` has {} levels, and a fraction is of factors with two"
        problems = [
            Problem(message.format(factor.name, len(factor.levels)), factor.key.span, (hint,)) for factor in many
        ]
        raise BlueprintError(problems, sweep.lines)
    count = len(sweep.factors)
    if count < FEWEST:
        message = f"there is no fraction of resolution V of {count} factors: any half mixes up effects of two"
        raise _refused(sweep, "design", message, f"`grid` has {2**count} cells")
    if count > MOST:
        raise _refused(sweep, "design", f"a fraction of {count} factors; {MOST} are the most", "vary fewer at a time")


def _refused(sweep: Sweep, key: str, message: str, *hints: str) -> BlueprintError:
    return BlueprintError([Problem(message, sweep.span(key, "vary"), hints)], sweep.lines)
