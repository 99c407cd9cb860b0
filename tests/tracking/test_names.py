from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose_vlp.tracking.names import cut, store_name


@given(st.text(max_size=300) | st.text("./ a*", max_size=12))
@settings(max_examples=300, deadline=None)
def test_mlflow_takes_every_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag

    actual = store_name(name)
    _validate_metric_name(actual)
    _validate_param(actual, "")
    _validate_tag(actual, "")
    assert len(actual) <= 250


@pytest.mark.parametrize(
    "name", ["loss", "train/loss", "retrieval.image_to_text.recall@1".replace("@", "_"), "a b:c-d"]
)
def test_a_name_that_is_right_stays(name: str) -> None:
    assert store_name(name) == name


def test_other_signs_become_underscores() -> None:
    assert store_name("recall@1 (%)") == "recall_1 ___"


def test_a_long_word_is_cut_visibly() -> None:
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"
