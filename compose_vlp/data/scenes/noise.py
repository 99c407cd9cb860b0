"""Captions as the web has them: about another picture, wrong in a detail, or about nothing at all."""

from __future__ import annotations

from compose_vlp.data.draws import Draws
from compose_vlp.data.scenes.wording import caption
from compose_vlp.data.scenes.world import COLOURS, SHAPES, Scene

JUNK = (
    "img {number} jpg",
    "buy now , free shipping on orders over {number}",
    "photo {number} , click to enlarge",
    "best wallpapers {number} download free",
    "page not found , error {number}",
    "my holiday pictures part {number}",
    "{colour} {shape} shop , sale ends today",
)


def wrong_caption(scene: Scene, other: Scene, draws: Draws) -> str:
    """Write a caption that is not true of `scene`: that of `other`, one with another colour or shape in it, or junk."""
    kind = draws.pick(("other", "detail", "junk"))
    if kind == "other" and not _looks(other) <= _looks(scene):
        return caption(other, draws)
    if kind == "detail":
        return caption(_with_a_wrong_detail(scene, draws), draws)
    return draws.pick(JUNK).format(
        number=draws.below(5000), colour=draws.pick(tuple(COLOURS)), shape=draws.pick(SHAPES)
    )


def _looks(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in scene.things}


def _with_a_wrong_detail(scene: Scene, draws: Draws) -> Scene:
    """Return the scene with one thing's colour or shape replaced by one that no thing of the scene has with it."""
    place = draws.below(len(scene.things))
    thing = scene.things[place]
    looks = [(colour, thing.shape) for colour in COLOURS] + [(thing.colour, shape) for shape in SHAPES]
    colour, shape = draws.pick([look for look in looks if look not in _looks(scene)])
    changed = thing._replace(colour=colour, shape=shape)
    return scene._replace(things=(*scene.things[:place], changed, *scene.things[place + 1 :]))
