"""Draws are one value for all who read them, and a queue has one call."""

from __future__ import annotations

from collections.abc import Callable

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from tests.graph.support import paper, problems, written

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]


def test_a_teacher_reads_the_students_choice() -> None:
    calls = paper("albef").training
    assert [(call.id, call.world) for call in calls if call.target == "masker"] == [("masked", None)]
    assert "momentum.predicted.t = momentum.text(x=masked.text)" in written(calls)


def test_a_teacher_that_names_a_choice_gets_the_students(child: Child) -> None:
    blueprint = child("extends: albef\nlosses:\n  mlm: {labels: momentum.masked.labels}\n")
    assert str(dict(blueprint.calls["losses.mlm"].args)["labels"]) == "masked.labels"


INSIDE = """\
extends: albef
graph:
  shown: text(masker(caption).text)
  wide:  add([t, shown, momentum.shown])
  seen:  itm_head(wide.cls)
losses:
  itm: {positive: seen}
"""


def test_a_choice_inside_an_expression_is_the_students_too(child: Child) -> None:
    calls = child(INSIDE).training
    assert {(call.id, call.world) for call in calls if call.target == "masker"} == {
        ("shown.masker", None),
        ("masked", None),
    }
    assert "momentum.shown = momentum.text(x=shown.masker.text)" in written(calls)


def test_a_substitution_that_would_choose_again_is_refused(only: Only) -> None:
    problem = only(
        "extends: albef\ngraph:\n  again: predicted(caption=caption[neg.text])\nlosses: {mlm: {logits: again}}\n"
    )
    assert problem.message == "`masked` is one choice (`masker` draws it once); here it would be made again"
    assert problem.hints == ("a second choice needs an entry of its own that calls `masker`",)
    assert problem.span is not None
    assert (problem.span.line, problem.span.column, problem.span.end_column) == (3, 10, 46)


def test_two_entries_are_two_choices(child: Child) -> None:
    blueprint = child(
        "extends: albef\ngraph:\n  other: masker(caption)\n  second: guess(caption=other.text)\n"
        "losses:\n  more: {use: masked_lm, logits: second, labels: other.labels}\n"
    )
    assert {call.id for call in blueprint.training if call.target == "masker"} == {"masked", "other"}


def test_an_output_that_reaches_a_choice_is_refused(only: Only) -> None:
    problem = only("extends: albef\noutputs:\n  word: predicted\n")
    assert problem.message == "output `word` reaches `masked`, which `masker` draws at random"
    assert problem.related[0][0] == "it is drawn here"


def test_a_queue_is_read_in_all_worlds_and_written_once() -> None:
    calls = [call for call in paper("blip").training if call.target == "memory"]
    assert [(call.id, call.world) for call in calls] == [("keys", None)]


def test_a_second_call_of_a_queue_is_refused(only: Only) -> None:
    problem = only(
        "extends: albef\ngraph:\n  more: memory(image=image_embedding, text=text_embedding)\n"
        "  i2t_m: similarity(momentum.image_embedding, more.text)\n"
    )
    assert problem.message == "`memory` keeps a state, and has one call"
    assert problem.related[0][0] == "it is called here"


def test_a_substitution_that_would_advance_a_queue_is_refused() -> None:
    actual = problems("albef", "i2t_m=i2t(caption=caption[neg.text])")
    assert [problem.message for problem in actual] == [
        "`keys` keeps a state, which one call a step advances; here `memory` would advance it again"
    ]


def test_what_a_masker_hides_has_a_root_of_its_own() -> None:
    beit3 = paper("beit3")
    assert dict(beit3.type_of(beit3.values["text_given_image"]).reads).keys() == {"half.text", "hidden_pair"}
    assert dict(beit3.type_of(beit3.values["joint"]).reads).keys() == {"caption", "image"}
