"""Captions of a scene: true, of varied wording, and full enough that few pictures share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from compose_vlp.data.draws import Draws
from compose_vlp.data.scenes.world import Scene, Thing

SIZE_WORDS = {"small": ("small", "tiny"), "large": ("large", "big")}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
LOCATIONS = (
    ("in the top left", "at the top", "in the top right"),
    ("on the left", "in the middle", "on the right"),
    ("in the bottom left", "at the bottom", "in the bottom right"),
)
DIAGONAL = 0.41
"""tan(22.5 degrees): the directions are the eight sectors of equal width."""
ONE = ("{a} {a_at}", "there is {a} {a_at}", "a picture of {a} {a_at}", "{a_at} there is {a}")
TWO = (
    "{a} {a_to_b} {b}",
    "there is {a} {a_to_b} {b}",
    "{a} is {a_to_b} {b}",
    "a picture of {a} {a_to_b} {b}",
    "{a} {a_at} and {b} {b_at}",
    "there is {a} {a_at} and {b} {b_at}",
    "{a_at} there is {a} and {b_at} {b}",
)
MANY = ("{list}", "we see {list}", "a picture of {list}", "{count} shapes : {list}")


def caption(scene: Scene, draws: Draws) -> str:
    """One of many true captions of the scene, in lower case."""
    if len(scene.things) > 2:
        return draws.pick(MANY).format(list=_listing(scene, draws), count=NUMBERS[len(scene.things)])
    a, *rest = draws.shuffled(scene.things)
    if not rest:
        return draws.pick(ONE).format(a=noun(a, draws), a_at=location(a))
    (b,) = rest
    return draws.pick(TWO).format(
        a=noun(a, draws), b=noun(b, draws), a_at=location(a), b_at=location(b), a_to_b=direction(a, b)
    )


def noun(thing: Thing, draws: Draws) -> str:
    """Name the thing with an article, its size, colour and shape: 'a tiny red circle'."""
    return f"a {draws.pick(SIZE_WORDS[thing.size])} {thing.colour} {thing.shape}"


def plain(thing: Thing) -> str:
    """Colour and shape: 'red circle'."""
    return f"{thing.colour} {thing.shape}"


def location(thing: Thing) -> str:
    """Name the field, of nine in the picture, that the thing's centre lies in: 'in the top left'."""
    return LOCATIONS[min(2, int(thing.y * 3))][min(2, int(thing.x * 3))]


def direction(thing: Thing, of: Thing) -> str:
    """Say where `thing` lies seen from `of`: 'above', 'to the left of', 'to the upper left of'."""
    right, down = thing.x - of.x, thing.y - of.y
    side = "right" if right > 0 else "left"
    if abs(down) <= DIAGONAL * abs(right):
        return f"to the {side} of"
    if abs(right) <= DIAGONAL * abs(down):
        return "below" if down > 0 else "above"
    return f"to the {'lower' if down > 0 else 'upper'} {side} of"


def counted(number: int, word: str) -> str:
    """Write the number with the word in singular or plural: 'two stars', 'one star', 'no stars'."""
    return f"{NUMBERS[number]} {word if number == 1 else plural(word)}"


def plural(word: str) -> str:
    """Return the plural of a shape's name."""
    return f"{word}es" if word.endswith(("s", "x")) else f"{word}s"


def with_article(words: str) -> str:
    """Put 'a' or 'an' before the words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _listing(scene: Scene, draws: Draws) -> str:
    """'two red circles , a tiny blue star and a green ring': equal things counted, single ones with their size."""
    groups = Counter(plain(thing) for thing in scene.things)
    single = {plain(thing): noun(thing, draws) for thing in scene.things}
    phrases = [counted(n, looks) if n > 1 else single[looks] for looks, n in groups.items()]
    return enumeration(draws.shuffled(phrases))


def enumeration(phrases: Sequence[str]) -> str:
    """'a', 'a and b', 'a , b and c'."""
    return " and ".join(filter(None, (" , ".join(phrases[:-1]), phrases[-1])))
