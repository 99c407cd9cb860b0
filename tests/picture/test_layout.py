"""Places of boxes: below what they read, in an order with few crossings, never on each other."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose_vlp.picture import diagram_of
from compose_vlp.picture.arrange import Arranged, arrange
from compose_vlp.picture.diagram import Arrow, Box, Diagram
from compose_vlp.picture.layers import assign_layers
from compose_vlp.picture.ordering import crossings, order
from compose_vlp.picture.placing import Extent, isotonic, place
from compose_vlp.picture.words import shortened, width
from tests.graph.support import FIVE, paper


def diagram(*arrows: str) -> Diagram:
    """`diagram("a b", "b c")` has arrows from a to b and from b to c, and boxes in the order in which they appear."""
    pairs = [tuple(arrow.split()) for arrow in arrows]
    names = dict.fromkeys(name for pair in pairs for name in pair)
    return Diagram("", "", tuple(Box(name, "tower", name) for name in names), tuple(Arrow(a, b) for a, b in pairs))


def layers_of(*arrows: str) -> dict[str, int]:
    made = diagram(*arrows)
    return assign_layers([box.id for box in made.boxes], [(a.source, a.target) for a in made.arrows])


def test_box_stands_below_everything_that_it_reads() -> None:
    assert layers_of("a b", "b c", "a c") == {"a": 0, "b": 1, "c": 2}


def test_box_that_feeds_late_readers_moves_down_to_them() -> None:
    assert layers_of("a b", "b c", "late d", "c d") == {"a": 0, "b": 1, "c": 2, "d": 3, "late": 2}


def test_order_undoes_a_crossing() -> None:
    below = {"a": ["d"], "b": ["c"]}
    above = {"c": ["b"], "d": ["a"]}
    layers = [["a", "b"], ["c", "d"]]
    assert crossings(layers, below) == 1
    assert crossings(order(layers, above, below), below) == 0


def test_crossings_are_counted_by_pairs() -> None:
    below = {"a": ["x", "y"], "b": ["x", "y"], "c": ["x"]}
    assert crossings([["a", "b", "c"], ["x", "y"]], below) == 3


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8))
def test_isotonic_ascends_and_leaves_what_ascends(values: list[int]) -> None:
    actual = isotonic(values, [1.0] * len(values))
    assert all(a <= b + 1e-9 for a, b in pairwise(actual))
    assert sum(actual) == pytest.approx(sum(values))
    assert isotonic(actual, [1.0] * len(actual)) == pytest.approx(actual)


def test_isotonic_is_the_nearest_in_weighted_squares() -> None:
    assert isotonic([3, 1], [1, 3]) == [1.5, 1.5]


def test_lone_chain_is_straight() -> None:
    layers = [["a", "wide"], ["b"], ["c"]]
    links = {"a": [("b", 1.0)], "b": [("a", 1.0), ("c", 1.0)], "c": [("b", 1.0)]}
    extents = {name: Extent(20, 20) for name in "abc"} | {"wide": Extent(90, 90)}
    x = place(layers, links, extents, 10)
    assert x["a"] == pytest.approx(x["b"], abs=0.5)
    assert x["b"] == pytest.approx(x["c"], abs=0.5)
    assert x["wide"] - x["a"] >= 90 + 20 + 10 - 1e-6


def overlaps(placed: Arranged) -> list[tuple[str, str]]:
    """Pairs of boxes that cover each other."""

    def apart(a, b) -> bool:
        across = a.x + a.width / 2 <= b.x - b.width / 2 + 1e-6 or b.x + b.width / 2 <= a.x - a.width / 2 + 1e-6
        return across or a.y + a.height <= b.y or b.y + b.height <= a.y

    return [(a.box.id, b.box.id) for a, b in combinations(placed.boxes, 2) if not apart(a, b)]


@pytest.mark.parametrize("name", FIVE)
def test_papers_are_laid_out_without_overlaps_and_downwards(name: str) -> None:
    placed = arrange(diagram_of(paper(name)))
    assert overlaps(placed) == []
    boxes = {rectangle.box.id: rectangle for rectangle in placed.boxes}
    for route in placed.routes:
        source, target = boxes[route.arrow.source], boxes[route.arrow.target]
        assert source.y + source.height < target.y
        assert route.runs[0][0] == source.x
        assert abs(route.runs[-1][0] - target.x) <= target.width / 2
        assert route.runs[-1][2] == target.y
    assert all(
        rectangle.x - rectangle.width / 2 >= 0 and rectangle.x + rectangle.width / 2 <= placed.width + 1e-6
        for rectangle in placed.boxes
    )


@pytest.mark.parametrize("name", FIVE)
def test_long_arrows_pass_between_boxes(name: str) -> None:
    """A vertical run through a layer touches none of its boxes."""
    placed = arrange(diagram_of(paper(name)))
    for route in placed.routes:
        for x, top, end in route.runs[1:-1]:
            touched = [
                rectangle.box.id
                for rectangle in placed.boxes
                if abs(rectangle.x - x) < rectangle.width / 2
                and top < rectangle.y + rectangle.height
                and rectangle.y < end
            ]
            assert touched == []


def test_same_diagram_gives_the_same_places() -> None:
    assert arrange(diagram_of(paper("albef"))) == arrange(diagram_of(paper("albef")))


def test_empty_diagram_has_no_size() -> None:
    placed = arrange(Diagram("", "", (), ()))
    assert (placed.boxes, placed.width, placed.height) == ((), 0.0, 0.0)


def test_wider_words_are_wider() -> None:
    assert width("wide", 12) > width("fill", 12)
    assert width("bold", 12, bold=True) > width("bold", 12)


def test_words_are_shortened_to_their_room() -> None:
    assert shortened("short", 12, 100) == "short"
    cut = shortened("a rather long sentence", 12, 60)
    assert cut.endswith("…")
    assert width(cut, 12) <= 60
