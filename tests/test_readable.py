"""Quantities as people read them."""

from __future__ import annotations

import pytest

from compose_vlp import readable


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (999, "999"),
        (999.7, "1.00K"),
        (1000, "1.00K"),
        (86_300_000, "86.3M"),
        (999_950_000, "1.00B"),
        (2_130_086_529, "2.13B"),
    ],
)
def test_counts_have_three_figures(number: float, words: str) -> None:
    assert readable.count(number) == words


@pytest.mark.parametrize(("number", "words"), [(12, "12 FLOP"), (1.7e13, "17.0 TFLOP"), (3e18, "3.00 EFLOP")])
def test_work_is_in_units_of_operations(number: float, words: str) -> None:
    assert readable.work(number) == words


@pytest.mark.parametrize(("number", "words"), [(12, "12 B"), (1500, "1.50 kB"), (8.52e9, "8.52 GB"), (2e12, "2.00 TB")])
def test_storage_is_decimal(number: float, words: str) -> None:
    assert readable.storage(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"), (7260, "2 h 1 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert readable.duration(seconds) == words


def test_percent_has_one_decimal() -> None:
    assert readable.percent(0.4567) == "45.7 %"
