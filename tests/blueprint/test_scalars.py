"""Text to values by the destination's type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose_vlp.blueprint.scalars import (
    Quantity,
    ScalarError,
    read_bool,
    read_float,
    read_int,
    read_quantity,
)


@pytest.mark.parametrize(
    ("text", "value"), [("010", 10), ("65536", 65536), ("-3", -3), ("1_000", 1000), ("1e6", 1_000_000)]
)
def test_whole_numbers_are_decimal(text: str, value: int) -> None:
    read = read_int(text)
    assert read == value
    assert type(read) is int


@pytest.mark.parametrize("text", ["0x10", "1.5", "ten", "", "1 000", "1e-3", "true"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ScalarError, match="expected a whole number"):
        read_int(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E4", 1e4), (".5", 0.5), ("3", 3.0), ("-0.1", -0.1), ("1.", 1.0)]
)
def test_numbers_are_read_in_every_notation(text: str, value: float) -> None:
    assert read_float(text) == value


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1,5", "e4", ""])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(ScalarError, match="expected a number"):
        read_float(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_that_python_prints_is_read(value: float) -> None:
    assert read_float(repr(value)) == value


@pytest.mark.parametrize("text", ["no", "on", "yes", "True", "1"])
def test_only_true_and_false_are_truth_values(text: str) -> None:
    assert read_bool("true") is True
    assert read_bool("false") is False
    with pytest.raises(ScalarError, match="`true` or `false`"):
        read_bool(text)


@pytest.mark.parametrize(
    ("text", "quantity", "written"),
    [
        ("1 epoch", Quantity(1, "epochs"), "1 epoch"),
        ("500 steps", Quantity(500, "steps"), "500 steps"),
        ("1e6 samples", Quantity(1e6, "samples"), "1000000 samples"),
        ("10 %", Quantity(10, "percent"), "10 %"),
        ("10%", Quantity(10, "percent"), "10 %"),
        ("0.5 epochs", Quantity(0.5, "epochs"), "0.5 epochs"),
        ("1 step", Quantity(1, "steps"), "1 step"),
    ],
)
def test_a_quantity_is_a_number_and_a_unit(text: str, quantity: Quantity, written: str) -> None:
    assert read_quantity(text) == quantity
    assert str(quantity) == written
    assert read_quantity(written) == quantity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10", "a unit is missing"),
        ("10 minutes", "`minutes` is no unit: steps, epochs, samples or %"),
        ("epochs", "expected a number and a unit"),
        ("-1 epoch", "at least 0"),
        ("0.5 steps", "whole steps"),
        ("120 %", "at most 100 %"),
    ],
)
def test_what_is_no_quantity_says_why(text: str, message: str) -> None:
    with pytest.raises(ScalarError, match=message):
        read_quantity(text)
