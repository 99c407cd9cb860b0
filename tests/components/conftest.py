"""Tests of components compute in float64, all of them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _double(double: None) -> None:
    """Asks for the fixture of that name in each of these tests."""
