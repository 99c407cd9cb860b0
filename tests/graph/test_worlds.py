"""A teacher computes the same values in its own weights, without a list of what it copies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from tests.graph.support import paper, written

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]


def test_a_teachers_value_is_the_same_value_in_its_weights() -> None:
    plan = written(paper("albef").training)
    students = [line for line in plan if line.startswith(("v =", "image_embedding"))]
    teachers = [line for line in plan if line.startswith(("momentum.v", "momentum.image_embedding"))]
    assert [line.replace("momentum.", "") for line in teachers] == students


def test_inputs_are_the_same_in_all_worlds() -> None:
    assert {
        call.world for name in ("coca", "albef", "blip") for call in paper(name).training if call.role == "input"
    } == {None}


def test_a_teachers_values_are_read_in_its_world_wherever_the_reading_is_written(child: Child) -> None:
    text = "extends: albef\ngraph:\n  ahead: itm_head(momentum.joint.cls)\nlosses:\n  itm: {positive: ahead}\n"
    calls = child(text).calls
    assert calls["ahead.cls"].world == "momentum"
    assert calls["ahead"].world is None


def test_what_stands_on_inputs_alone_is_one_value_in_all_worlds(child: Child) -> None:
    text = "extends: blip\ngraph:\n  far: itm_head(momentum.fused)\nlosses:\n  itm: {positive: far}\n"
    begins = [call for call in child(text).training if call.target == "begin" and "ENC" in str(call.args)]
    assert {call.world for call in begins} == {None}


@pytest.mark.parametrize(
    ("expression", "place", "message"),
    [
        ("momentum.zzz", "zzz", "nothing in the world of `momentum` is called `zzz`"),
        ("itm_head(momentum.caption)", "caption", "`caption` is an input, the same in every world"),
        ("itm_head(momentum.fusion)", "fusion", "`fusion` is a component, and is called: `momentum.fusion(...)`"),
        ("itm_head(momentum)", "momentum", "`momentum` is a teacher: `momentum.entry` is an entry in its world"),
        ("momentum(t)", "momentum", "`momentum` is a teacher, which cannot be called"),
        ("itm_head(momentum.masker(caption).text)", "masker",
         "`masker` is the student's in every world: a teacher makes no choices and keeps no state"),
        ("itm_head(fsion.joint)", "fsion", "nothing is called `fsion`"),
    ],
)  # fmt: skip
def test_a_world_that_means_nothing(messages: Messages, expression: str, place: str, message: str) -> None:
    actual = messages(f"extends: albef\ngraph:\n  wrong_text: {expression}\n")
    assert [(where.split(" ", 1)[1], what) for where, what in actual] == [(place, message)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("[t, v]", "graph entry `wrong_text` is a list, and no value"),
        ('"word"', "graph entry `wrong_text` is a literal, and no value"),
        ("$alpha", "graph entry `wrong_text` is a param, and no value"),
    ],
)
def test_an_entry_is_one_value(only: Only, expression: str, message: str) -> None:
    assert only(f"extends: albef\ngraph:\n  wrong_text: '{expression}'\n").message == message
