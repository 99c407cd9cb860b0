"""The fuzz of blueprints in small, as `python -m tests.fuzz.blueprints` runs it in full."""

from __future__ import annotations

import pytest

from tests.fuzz.blueprints import throw

pytestmark = pytest.mark.filterwarnings("ignore")


def test_whatever_is_spoilt_is_refused_in_words_or_built() -> None:
    outcome = throw(range(500), build=0.1)
    assert not outcome.faults, "\n".join(outcome.faults)
    assert outcome.refused > 200
    assert outcome.accepted > 25
    assert outcome.built


def test_what_check_accepts_is_trained() -> None:
    outcome = throw(range(500, 550), train=0.25)
    assert not outcome.faults, "\n".join(outcome.faults)
    assert outcome.trained
