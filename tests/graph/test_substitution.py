"""Reuse by substitution: what a call of a graph entry means, and which calls mean nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from tests.graph.support import SMALL, checked, edited, paper, problems, shapes_of, written

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]


def albef(graph: str) -> str:
    return f"extends: albef\ngraph:\n{graph}"


def test_a_value_is_computed_again_with_the_name_replaced() -> None:
    plan = written(paper("albef").training)
    assert "wrong_text.joint = fusion(x=wrong_text.t, context=v)" in plan
    assert "wrong_text.t = index(x=t, index=neg.text)" in plan


def test_replacing_a_name_by_itself_changes_nothing(child: Child) -> None:
    blueprint = child(albef("  again: matched(t=t, v=v)\n") + "outputs: {again: again}\n")
    shapes = {call.id: call for call in blueprint.plan.calls}
    same = shapes_of(blueprint.fragment([blueprint.outputs["again"].ref]))
    assert set(same) == set(shapes_of(blueprint.fragment([blueprint.values["matched"]])))
    assert shapes["again"].target == "itm_head"


def test_what_does_not_read_the_name_is_the_same_value() -> None:
    """Two calls of one entry share all that neither replaces: ALBEF encodes each picture once."""
    albef_calls = paper("albef").training
    assert [call.id for call in albef_calls if call.target == "vision"] == ["v", "momentum.v"]
    assert [call.id for call in albef_calls if call.target == "text"] == [
        "t",
        "momentum.t",
        "predicted.t",
        "momentum.predicted.t",
    ]


def test_a_substitution_inside_a_substitution_sees_the_outer_one(child: Child) -> None:
    text = albef("  both: predicted(v=v[neg.image])\n") + "losses: {mlm: {logits: both}}\n"
    plan = written(child(text).training)
    assert "both.joint = fusion(x=predicted.t, context=both.v)" in plan


def test_arguments_are_read_in_the_callers_world(child: Child) -> None:
    text = albef("  mixed: momentum.guess(t=text(masked.text))\n") + "losses: {mlm: {soft: mixed}}\n"
    plan = written(child(text).training)
    assert "mixed.text = text(x=masked.text)" in plan
    assert "mixed.momentum.joint = momentum.fusion(x=mixed.text, context=momentum.v)" in plan
    assert "mixed = momentum.mlm_head(x=mixed.momentum.joint)" in plan


def test_a_list_stands_where_every_reader_takes_several() -> None:
    blueprint = checked("albef", "tasks/nlvr2_one_pass")
    assert "verdict.joint = fusion(x=verdict.t, context=[verdict.v, verdict.v_2])" in written(blueprint.training)
    assert blueprint.components["fusion"].config.contexts == 2


def test_a_list_where_a_reader_takes_one_names_the_reader_and_the_call(only: Only) -> None:
    problem = only(albef("  matched: itm_head(adapt(joint).cls)\n  joint: fusion(t, context=adapt2(v))\n"
                         "  two: matched(v=[v, v])\n") + "components: {adapt: {use: adapter}, adapt2: {use: adapter}}\n"
                   "outputs: {two: two}\n")  # fmt: skip
    assert problem.message == "`x` of `adapt2` takes one value, and `v` is a list"
    assert "in two = matched(v=[v, v])" in problem.hints


def test_previous_may_be_called_for_what_it_was(child: Child) -> None:
    blueprint = child("extends: albef\ncomponents: {ad: {use: adapter}}\ngraph:\n  t: ad(previous)\n")
    assert "t = ad(x=t.previous)" in written(blueprint.training)


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "place", "message", "hint"),
    [
        ("matched(words=t)", "words", "no such name: `words` (in a call of `matched`)",
         "it reads `image`, `caption`, `v`, `t`, `joint`, `fused`"),
        ("matched(vv=v)", "vv", "no such name: `vv` (in a call of `matched`)", "did you mean 'v'?"),
        ("matched(masked=masked)", "masked", "`matched` does not read `masked`",
         "it reads `image`, `caption`, `v`, `t`, `joint`, `fused`"),
        ("matched(fusion=v)", "fusion", "`fusion` is a component, and is not replaced (in a call of `matched`)",
         "it reads `image`, `caption`, `v`, `t`, `joint`, `fused`"),
        ("matched(t)", "t", "a graph entry's arguments are named",
         "`matched(name=t)` replaces a name; it reads `image`, `caption`, `v`, `t`, `joint`, `fused`"),
        ("matched()", "matched()", "`matched` is a graph entry: without arguments it is read as `matched`", None),
        ("matched(image=caption)", "image", "`image` takes Image, and this is Text", None),
        ("matched(t=v.cls)", "t", "`t` takes Sequence, and this is Embedding", None),
        ("matched(t=3)", "3", "`t` takes Sequence, and this is a literal", None),
        ("matched(joint=joint, t=t)", "t", "`matched` does not read `t`", "it reads `joint`, `fused`"),
    ],
)  # fmt: skip
def test_a_call_that_means_nothing(
    messages: Messages, only: Only, expression: str, place: str, message: str, hint: str | None
) -> None:
    text = albef(f"  wrong_text: {expression}\n")
    actual = messages(text)
    assert [(where.split(" ", 1)[1], what) for where, what in actual] == [(place, message)]
    assert hint is None or hint in only(text).hints


def test_a_name_that_a_child_no_longer_reads_says_who_replaced_it(only: Only) -> None:
    problem = only("extends: blip\ngraph:\n  wrong_text: matched(t=t[neg.text])\n")
    assert problem.message == "`matched` does not read `t`"
    ((what, place),) = problem.related
    assert what == "`joint` is replaced here, and read `t` before"
    assert place.file.endswith("blip.yaml")
    assert place.line == 18


def test_a_name_that_is_not_read_in_a_teachers_world_names_the_world(only: Only) -> None:
    problem = only(albef("  taught: momentum.predicted(i2t=i2t)\n"))
    assert problem.message == "`predicted` does not read `i2t` in the world of `momentum`"
    words = "`image`, `caption`, `momentum.v`, `momentum.t`, `momentum.joint`, `momentum.masked`, `momentum.guess`"
    assert problem.hints[-1] == f"it reads {words}"


def test_another_tokenizer_is_refused(only: Only) -> None:
    text = albef("  other_match: matched(caption=other)\n") + (
        "inputs:\n  other: {type: text, tokenizer: second, max_length: 9}\n"
        "components:\n  second: {use: bpe, vocab_size: 99}\noutputs:\n  other_match: other_match\n"
    )
    problem = only(text.replace("outputs:\n  other_match: other_match\n", "outputs:\n  shown: other_match\n"))
    assert problem.message == "`caption` takes Text of tokenizer `bert`, and this is Text of `second`"


@pytest.mark.parametrize("name", ["t", "ad(t)"])
def test_an_entry_that_reads_itself_is_offered_previous(messages: Messages, only: Only, name: str) -> None:
    text = f"extends: albef\ncomponents: {{ad: {{use: adapter}}}}\ngraph:\n  t: ad({name})\n"
    (actual,) = messages(text)
    assert actual[1] == "`t` reads itself"
    assert actual[0].endswith(" t")
    assert only(text).hints == ("the expression that is replaced is `previous`",)


def test_an_override_that_reads_itself_is_offered_previous() -> None:
    (problem,) = problems("albef", "t=ad(t)", "+components.ad={use: adapter}")
    assert problem.message == "`t` reads itself"
    assert problem.span is not None
    assert (problem.span.file, problem.span.column) == ("command line", 6)


def test_the_changed_expression_is_blamed_before_a_setting_that_stands_nearer() -> None:
    scores = "similarity({}, gathered({}))".format
    i2t, t2i = scores("image_embedding", "text_embedding"), scores("text_embedding", "image_embedding")
    (problem,) = problems("blip", "components.vision.depth=6", "~losses.itc", f"i2t={i2t}", f"t2i={t2i}")
    assert problem.message.startswith("`neg.image` points at rows")
    assert problem.span is not None and problem.span.end_column - problem.span.column == len(i2t)


def test_a_circle_is_told_with_its_way(only: Only) -> None:
    text = edited(
        SMALL,
        ("  i2t:", "  a: normalize(b)\n  b: normalize(c)\n  c: normalize(a)\n  i2t:"),
        ("shown: ie", "shown: a"),
    )
    problem = only(text)
    assert problem.message in {
        "`a` reads itself: a -> b -> c -> a",
        "`b` reads itself: b -> c -> a -> b",
        "`c` reads itself: c -> a -> b -> c",
    }


def test_a_substitution_that_cuts_a_circle_is_none(child: Child) -> None:
    """`a` puts something else in for `c`, which otherwise would read `a`."""
    text = edited(
        SMALL,
        ("  i2t:", "  a: b(c=ie)\n  b: normalize(c)\n  c: normalize(a)\n  i2t:"),
        ("shown: ie", "shown: c"),
    )
    assert child(text).outputs["shown"].ref.call == "c"


def test_long_chains_of_entries_are_followed(child: Child) -> None:
    chain = "".join(f"  n{i}: normalize(n{i + 1})\n" for i in range(300))
    text = edited(SMALL, ("  i2t:", f"{chain}  n300: ie\n  again: n0(ie=te)\n  i2t:"), ("shown: ie", "shown: again"))
    blueprint = child(text)
    assert len(blueprint.fragment([blueprint.outputs["shown"].ref])) == 6 + 300 - 1


def test_a_chain_that_no_person_writes_is_refused(only: Only) -> None:
    chain = "".join(f"  n{i}: normalize(n{i + 1})\n" for i in range(600))
    text = edited(SMALL, ("  i2t:", f"{chain}  n600: ie\n  i2t:"), ("shown: ie", "shown: n0"))
    assert only(text).message == "`n0` stands on a chain of 603 graph entries; 500 are the most"


# --- rows that belong together ------------------------------------------------------------------------------------


def test_an_index_on_one_road_only_offers_the_missing_half() -> None:
    (problem,) = problems("hybrids/albef_two_towers", "wrong_image=matched(v=v[neg.image])")
    assert problem.message == (
        "`v=v[neg.image]` picks other rows, and `matched` reaches `image` by another road, on its own rows"
    )
    assert problem.hints == ("put in the other half too: `v2=v2[neg.image]`",)


def test_another_input_of_the_same_field_is_another_road_too() -> None:
    (problem,) = problems(
        "hybrids/albef_two_towers",
        "wrong_image=matched(v=v[neg.image])",
        "+inputs.larger={type: image, like: image, size: 384, from: image}",
        "v2=blend(second(larger))",
    )
    assert problem.hints == ("put in the other half too: `v2=v2[neg.image]`",)


def test_both_halves_may_come_in_one_call_or_through_the_input() -> None:
    assert not problems("hybrids/albef_two_towers")
    assert not problems("hybrids/albef_two_towers", "wrong_image=matched(image=image[neg.image])")


def test_the_text_may_stay_where_the_image_moves() -> None:
    assert not problems("albef", "wrong_text=matched(t=t[neg.text], v=v[neg.text])")
