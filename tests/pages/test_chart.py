"""Curves: round grids, few points, nothing lost that is finite."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose_vlp.pages.chart import HEIGHT, LEFT, POINTS, RIGHT, TOP, WIDTH, Series, curves, scale, thinned


def test_chart_is_well_formed_and_keeps_its_curves_inside() -> None:
    drawn = curves([Series("a", [(0, 3), (10, 1)]), Series("b", [(0, 1), (5, 2)])], x="step")
    root = ET.fromstring(drawn)
    lines = [element.get("points", "") for element in root.iter("polyline")]
    assert len(lines) == 2
    for x, y in (map(float, pair.split(",")) for line in lines for pair in line.split()):
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT
    assert "".join(root.itertext()).endswith("ab")  # the key names both


def test_values_under_the_pointer_are_those_of_the_curve() -> None:
    drawn = ET.fromstring(curves([Series("<loss>", [(0, 3.5), (10, 1)])]))
    (series,) = json.loads(drawn.get("data-series", ""))
    assert series["name"] == "<loss>"
    assert [point[:2] for point in series["points"]] == [[0, 3.5], [10, 1]]


def test_single_curve_needs_no_key() -> None:
    assert 'class="keys"' not in curves([Series("a", [(0, 1), (1, 2)])])


def test_nothing_recorded_is_said() -> None:
    assert "nothing was recorded" in curves([Series("a", [(0, math.nan)])])


def test_many_points_become_means_of_runs() -> None:
    points = [(float(step), float(step % 2)) for step in range(10 * POINTS)]
    few = thinned(points)
    assert len(few) == POINTS
    assert {value for _, value in few} == {0.5}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_scale_covers_its_values_with_few_round_ticks(values: list[float]) -> None:
    actual = scale(values, 0, 100)
    assert actual.low <= min(values) + 1e-6 * max(map(abs, values))
    assert actual.high >= max(values) - 1e-6 * max(map(abs, values))
    assert 2 <= len(actual.ticks) <= 8


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([0, 10], [0, 2, 4, 6, 8, 10]), ([0.6, 4.2], [0, 1, 2, 3, 4, 5]), ([0, 900], [0, 200, 400, 600, 800, 1000])],
)
def test_ticks_are_round(values: list[float], ticks: list[float]) -> None:
    assert list(scale(values, 0, 1).ticks) == ticks


def test_constant_curve_has_a_scale_around_it() -> None:
    actual = scale([3, 3], 0, 1)
    assert actual.low < 3 < actual.high
