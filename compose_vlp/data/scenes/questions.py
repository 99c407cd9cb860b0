"""Questions about a scene that have one answer, each with several annotators' wordings of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from compose_vlp.data.draws import Draws
from compose_vlp.data.scenes.wording import NUMBERS, location, plain, plural, with_article
from compose_vlp.data.scenes.world import COLOURS, SHAPES, Scene, Thing

OTHER_WORDS = {"large": "big", "small": "tiny", "middle": "centre"}
OWN_WORD, OTHER_WORD = 0.7, 0.3
"""Shares of annotators that use our word and the other one, where another one would do."""


class Question(NamedTuple):
    """A question and its answers with their weights (shares of annotators), the best first."""

    text: str
    answers: Mapping[str, float]

    @property
    def best(self) -> str:
        """Return the answer that most annotators give."""
        return max(self.answers, key=lambda answer: self.answers[answer])


def question(scene: Scene, draws: Draws) -> Question:
    """Ask a question of a random kind among those that the scene has an answer to."""
    for ask in draws.shuffled(KINDS):
        pair = ask(scene, draws)
        if pair is not None:
            text, answer = pair
            other = OTHER_WORDS.get(answer)
            return Question(text, {answer: OWN_WORD, other: OTHER_WORD} if other else {answer: 1.0})
    raise AssertionError("_exists and _count have an answer for every scene")


Asked = tuple[str, str] | None


def _colour(scene: Scene, draws: Draws) -> Asked:
    thing = _any(draws, [t for t in scene.things if scene.count(shape=t.shape) == 1])
    return (f"what colour is the {thing.shape} ?", thing.colour) if thing else None


def _shape(scene: Scene, draws: Draws) -> Asked:
    thing = _any(draws, [t for t in scene.things if scene.count(colour=t.colour) == 1])
    return (f"what shape is the {thing.colour} thing ?", thing.shape) if thing else None


def _size(scene: Scene, draws: Draws) -> Asked:
    thing = _any(draws, unique_things(scene))
    return (f"what size is the {plain(thing)} ?", thing.size) if thing else None


def _where(scene: Scene, draws: Draws) -> Asked:
    thing = _any(draws, unique_things(scene))
    return (f"where is the {plain(thing)} ?", location(thing).split(" the ")[1]) if thing else None


def _left_or_right(scene: Scene, draws: Draws) -> Asked:
    pair = draws.shuffled(unique_things(scene))[:2]
    if len(pair) < 2 or abs(pair[0].x - pair[1].x) < 0.1:
        return None
    thing, other = pair
    text = f"is the {plain(thing)} left or right of the {plain(other)} ?"
    return text, "right" if thing.x > other.x else "left"


def _count(scene: Scene, draws: Draws) -> Asked:
    kind = draws.below(3)
    if kind == 0:
        return "how many shapes are there ?", NUMBERS[len(scene.things)]
    seen = draws.pick(scene.things) if draws.chance(0.75) else None
    if kind == 1:
        shape = seen.shape if seen else draws.pick(SHAPES)
        return f"how many {plural(shape)} are there ?", NUMBERS[scene.count(shape=shape)]
    colour = seen.colour if seen else draws.pick(tuple(COLOURS))
    return f"how many {colour} shapes are there ?", NUMBERS[scene.count(colour=colour)]


def _exists(scene: Scene, draws: Draws) -> Asked:
    if draws.chance(0.5):
        return f"is there {with_article(plain(draws.pick(scene.things)))} ?", "yes"
    return f"is there {with_article(' '.join(absent_looks(scene, draws)))} ?", "no"


KINDS: tuple[Callable[[Scene, Draws], Asked], ...] = (_colour, _shape, _size, _where, _left_or_right, _count, _exists)


def unique_things(scene: Scene) -> list[Thing]:
    """List the things that colour and shape tell from all others."""
    return [thing for thing in scene.things if scene.count(thing.colour, thing.shape) == 1]


def absent_looks(scene: Scene, draws: Draws) -> tuple[str, str]:
    """Draw a colour and a shape that no thing has together."""
    while True:
        colour, shape = draws.pick(tuple(COLOURS)), draws.pick(SHAPES)
        if not scene.count(colour, shape):
            return colour, shape


def _any(draws: Draws, things: Sequence[Thing]) -> Thing | None:
    return draws.pick(things) if things else None
