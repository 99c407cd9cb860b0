"""Streams of random numbers by key."""

from __future__ import annotations

import subprocess
import sys

from compose_vlp.data.draws import Draws


def test_a_key_gives_the_same_numbers_in_every_process() -> None:
    code = "from compose_vlp.data.draws import Draws; d = Draws('a', 3); print([d.unit(), d.below(100), d.pick('xyz')])"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    draws = Draws("a", 3)
    assert runs == [f"{[draws.unit(), draws.below(100), draws.pick('xyz')]}\n"] * 2


def test_other_keys_give_other_numbers() -> None:
    assert len({Draws(*key).unit() for key in [(0, 1), (1, 0), ("0", 1), (0, "1"), (0, 1, 2), (0,)]}) == 6


def test_shuffled_is_a_permutation_and_every_place_is_reached() -> None:
    draws = Draws(0)
    orders = [draws.shuffled("abcd") for _ in range(400)]
    assert {"".join(sorted(order)) for order in orders} == {"abcd"}
    assert len({tuple(order) for order in orders}) == 24


def test_below_and_between_stay_within_their_bounds() -> None:
    draws = Draws(1)
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}
    assert all(-1.5 <= draws.between(-1.5, 2.0) < 2.0 for _ in range(100))
