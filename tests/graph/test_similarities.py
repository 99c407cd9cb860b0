"""A similarity remembers its two sides, so lists of them must mirror each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.types import SimilarityType
from tests.graph.support import paper

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]


def test_sides_are_the_inputs_compared_whatever_world_they_come_from() -> None:
    albef = paper("albef")
    sides = {}
    for name in ("i2t", "t2i", "i2t_m", "t2i_m"):
        kind = albef.type_of(albef.values[name])
        assert isinstance(kind, SimilarityType)
        sides[name] = tuple("".join(side) for side in kind.sides)
    assert sides == {
        "i2t": ("image", "caption"),
        "t2i": ("caption", "image"),
        "i2t_m": ("image", "caption"),
        "t2i_m": ("caption", "image"),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scores: [i2t, i2t]",
         "`[i2t, i2t]` compares image with caption, then image with caption: the second must mirror the first"),
        ("soft: [t2i_m, i2t_m]",
         "`soft` compares caption with image at place 1, and `scores` image with caption"),
        ("scores: [t2i, i2t]",
         "`soft` compares image with caption at place 1, and `scores` caption with image"),
        ("soft: [i2t_m]", "similarities in `soft`: 1, and in `scores`: 2"),
    ],
)  # fmt: skip
def test_lists_that_do_not_mirror_are_refused(only: Only, line: str, message: str) -> None:
    problem = only(f"extends: albef\nlosses:\n  itc: {{{line}}}\n")
    assert problem.message == message


def test_a_miner_takes_both_directions(only: Only) -> None:
    problem = only("extends: albef\ngraph:\n  neg: hard(i2t, i2t)\n")
    assert problem.message == (
        "`t2i` compares image with caption, and must mirror `i2t`, which compares image with caption"
    )


def test_one_kind_of_thing_may_be_compared_with_itself(child: Child) -> None:
    blueprint = child(
        "extends: albef\ninputs:\n  twin: {type: image, like: image, from: twin}\n"
        "graph:\n  left: similarity(image_embedding, image_embedding(image=twin))\n"
        "  right: similarity(image_embedding(image=twin), image_embedding)\n"
        "losses:\n  twins: {use: contrastive, scores: [left, right]}\n"
    )
    assert blueprint.losses["twins"].active
