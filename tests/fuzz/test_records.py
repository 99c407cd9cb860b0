"""The fuzz of records in small, as `python -m tests.fuzz.records` runs it in full."""

from __future__ import annotations

import warnings

import pytest

from tests.fuzz.records import INPUTS, SECONDS, ready, throw
from tests.fuzz.values import files

# Pillow warns of much that it then reads, in the survey's threads too.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready()


def test_every_value_is_taken_or_breaks_its_record_in_words() -> None:
    outcome = throw(range(800))
    assert not outcome.faults, "\n".join(outcome.faults)
    kinds = {str(settings["type"]) for settings in INPUTS}
    assert set(outcome.taken) == set(outcome.broken) == kinds, "each type takes some and refuses some"
    assert outcome.slowest[0] < SECONDS


def test_files_of_every_kind_are_thrown() -> None:
    kinds = {name.split(",")[0] for name in files()}
    assert {"AVIF", "EPS", "PDF", "WMF", "PSD", "TIFF", "WEBP", "IM", "SPIDER", "DDS", "BLP", "JPEG2000"} <= kinds
