from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compose_vlp.tracking.seen import Seen


@given(st.lists(st.integers(-5, 40)), st.lists(st.integers(-5, 40)))
def test_it_is_a_set_of_steps(learnt: list[int], added: list[int]) -> None:
    seen = Seen()
    seen.learn("loss", learnt)
    for step in added:
        seen.add("loss", step)
    model = {*learnt, *added}
    assert {step for step in range(-6, 42) if seen.has("loss", step)} == model


def test_what_is_forgotten_is_unknown_and_what_was_learnt_empty_is_not() -> None:
    seen = Seen()
    assert not seen.knows("loss")
    seen.learn("loss", ())
    assert seen.knows("loss")
    assert not seen.has("loss", 0)
    seen.add("loss", 0)
    seen.forget(["loss", "never heard of"])
    assert not seen.knows("loss")
    assert not seen.has("loss", 0)
