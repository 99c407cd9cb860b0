"""Sentences that are true or false of a picture, or of a pair of pictures, half of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from compose_vlp.data.draws import Draws
from compose_vlp.data.scenes.questions import absent_looks, unique_things
from compose_vlp.data.scenes.wording import LOCATIONS, NUMBERS, counted, location, plain, plural, with_article
from compose_vlp.data.scenes.world import COLOURS, MAX_THINGS, SHAPES, Scene

TRIES = 12


class Statement(NamedTuple):
    """A sentence and whether it is true of what it was made for."""

    text: str
    true: bool


def statement(scene: Scene, draws: Draws) -> Statement:
    """Write a sentence about one picture."""
    truth = draws.chance(0.5)
    for make in draws.shuffled(KINDS):
        text = make(scene, draws, truth)
        if text is not None:
            return Statement(text, truth)
    raise AssertionError("_exists has a sentence for every scene")


def pair_statement(left: Scene, right: Scene, draws: Draws) -> Statement:
    """Write a sentence about two pictures seen together."""
    truth = draws.chance(0.5)
    for _ in range(TRIES):
        claim = draws.pick(CLAIMS)(left, right, draws)
        if claim.true == truth:
            return claim
    return _in_total(len(left.things) + len(right.things), "shape", truth, draws)


# --- one picture ------------------------------------------------------------------------------------------------


def _exists(scene: Scene, draws: Draws, truth: bool) -> str:
    looks = plain(draws.pick(scene.things)) if truth else " ".join(absent_looks(scene, draws))
    return f"there is {with_article(looks)} in the picture"


def _counts(scene: Scene, draws: Draws, truth: bool) -> str:
    seen = draws.pick(scene.things)
    shape, colour = (seen.shape, None) if draws.chance(0.5) else (None, seen.colour)
    number = _number(scene.count(colour, shape), MAX_THINGS, truth, draws)
    verb = "is" if number == 1 else "are"
    return f"there {verb} exactly {counted(number, shape or f'{colour} shape')}"


def _stands(scene: Scene, draws: Draws, truth: bool) -> str | None:
    pair = draws.shuffled(unique_things(scene))[:2]
    if len(pair) < 2:
        return None
    thing, other = pair
    right, down = thing.x - other.x, thing.y - other.y
    if max(abs(right), abs(down)) < 0.1:
        return None
    if abs(right) > abs(down):
        words = "to the right of" if (right > 0) == truth else "to the left of"
    else:
        words = "below" if (down > 0) == truth else "above"
    return f"the {plain(thing)} is {words} the {plain(other)}"


def _lies(scene: Scene, draws: Draws, truth: bool) -> str | None:
    things = unique_things(scene)
    if not things:
        return None
    thing = draws.pick(things)
    places = [place for row in LOCATIONS for place in row if (place == location(thing)) == truth]
    return f"the {plain(thing)} is {draws.pick(places)}"


def _measures(scene: Scene, draws: Draws, truth: bool) -> str | None:
    things = unique_things(scene)
    if not things:
        return None
    thing = draws.pick(things)
    return f"the {plain(thing)} is {'large' if (thing.size == 'large') == truth else 'small'}"


KINDS: tuple[Callable[[Scene, Draws, bool], str | None], ...] = (_exists, _counts, _stands, _lies, _measures)


# --- two pictures -----------------------------------------------------------------------------------------------


def _both(left: Scene, right: Scene, draws: Draws) -> Statement:
    shape = _a_shape(left, right, draws)
    return Statement(f"both pictures contain a {shape}", bool(left.count(shape=shape) and right.count(shape=shape)))


def _only_one(left: Scene, right: Scene, draws: Draws) -> Statement:
    colour = draws.pick(left.things + right.things).colour
    side = draws.pick(("left", "right"))
    here, there = (left, right) if side == "left" else (right, left)
    text = f"only the {side} picture contains something {colour}"
    return Statement(text, bool(here.count(colour=colour)) and not there.count(colour=colour))


def _total(left: Scene, right: Scene, draws: Draws) -> Statement:
    shape = _a_shape(left, right, draws)
    return _in_total(left.count(shape=shape) + right.count(shape=shape), shape, draws.chance(0.5), draws)


def _more(left: Scene, right: Scene, draws: Draws) -> Statement:
    colour = draws.pick(tuple(COLOURS))
    text = f"the left picture has more {colour} shapes than the right one"
    return Statement(text, left.count(colour=colour) > right.count(colour=colour))


def _at_least(left: Scene, right: Scene, draws: Draws) -> Statement:
    shape = _a_shape(left, right, draws)
    number = 1 + draws.below(3)
    text = f"one of the pictures has at least {NUMBERS[number]} {shape if number == 1 else plural(shape)}"
    return Statement(text, max(left.count(shape=shape), right.count(shape=shape)) >= number)


CLAIMS: tuple[Callable[[Scene, Scene, Draws], Statement], ...] = (_both, _only_one, _total, _more, _at_least)


def _in_total(number: int, word: str, truth: bool, draws: Draws) -> Statement:
    claimed = _number(number, 2 * MAX_THINGS, truth, draws)
    words = NUMBERS[claimed] if claimed < len(NUMBERS) else str(claimed)
    verb = "is" if claimed == 1 else "are"
    text = f"there {verb} exactly {words} {word if claimed == 1 else plural(word)} in total"
    return Statement(text, truth)


def _number(right: int, most: int, truth: bool, draws: Draws) -> int:
    """Return the right number, or another one near it."""
    near = [n for n in range(max(0, right - 2), min(most, right + 2) + 1) if n != right]
    return right if truth else draws.pick(near)


def _a_shape(left: Scene, right: Scene, draws: Draws) -> str:
    return draws.pick(left.things + right.things).shape if draws.chance(0.8) else draws.pick(SHAPES)
