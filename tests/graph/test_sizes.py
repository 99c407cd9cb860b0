"""Sizes follow from the graph after overrides, are assertions where they are written, and clash with both places."""

from __future__ import annotations

from collections.abc import Callable

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from tests.graph.support import SMALL, checked, edited, problems

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]

DECODING = edited(
    SMALL,
    ("  compare:", "  dec: {use: text_decoder, heads: 4}\n  head: {use: lm_head}\n  compare:"),
    ("  i2t:", "  lg: head(dec(caption, context=v))\n  i2t:"),
    ("  itc:", "  lm: {use: next_token, logits: lg}\n  itc:"),
)


def test_overrides_come_first() -> None:
    blueprint = checked("albef", "inputs.image.size=384", "components.vision.width=1152")
    assert blueprint.components["vision"].config.size == 384
    assert blueprint.components["fusion"].config.context_width == 1152
    assert blueprint.components["fusion"].config.width == 768
    assert blueprint.components["image_proj"].config.width == 1152


def test_a_text_component_without_a_width_takes_its_contexts(child: Child) -> None:
    blueprint = child(DECODING)
    assert blueprint.components["dec"].config.width == 64
    assert blueprint.components["head"].config.width == 64


def test_a_text_component_with_a_width_keeps_it_beside_another_context(child: Child) -> None:
    config = child(edited(DECODING, ("text_decoder, heads: 4", "text_decoder, heads: 4, width: 32"))).components["dec"]
    assert (config.config.width, config.config.context_width) == (32, 64)


def test_a_size_may_follow_from_a_later_call(child: Child) -> None:
    """The first call has no context, the second says how wide the component is; readers of the first wait."""
    text = edited(
        DECODING,
        ("lg: head(dec(caption, context=v))", "alone: head(dec(caption))\n  lg: head(dec(caption, context=v))"),
        ("  lm:", "  first: {use: next_token, logits: alone}\n  lm:"),
    )
    blueprint = child(text)
    assert blueprint.type_of(blueprint.values["alone"]).shape() == ("main", 16, 100)
    assert blueprint.components["dec"].config.width == 64


def test_positions_are_made_for_the_longest_text() -> None:
    blueprint = checked("albef", "tasks/vqa_generate")
    assert blueprint.components["text"].config.length == 35
    assert blueprint.components["answerer"].config.length == 10


def test_a_written_size_is_an_assertion(only: Only) -> None:
    problem = only(
        edited(SMALL, ("image_proj: {use: projection, out: 32}", "image_proj: {use: projection, out: 32, width: 48}"))
    )
    assert problem.message == "width 64 of v.cls against width 48 of image_proj.x"
    ((what, place),) = problem.related
    assert what == "48 is written here"
    assert place.line == 9


def test_a_written_number_of_positions_may_be_larger_but_not_smaller(child: Child, only: Only) -> None:
    larger = edited(SMALL, ("text:       {use: bert_encoder,", "text:       {use: bert_encoder, length: 512,"))
    assert child(larger).components["text"].config.length == 512
    problem = only(larger.replace("512", "8"))
    assert problem.message == "length 16 of caption against length 8 of text.x"


def test_two_calls_that_disagree_are_told_with_both_places(only: Only) -> None:
    text = edited(
        SMALL,
        ("  text_proj:", "  wide: {use: vit, width: 48, depth: 1, heads: 4, patch: 16}\n  text_proj:"),
        ("  te: ", "  other: normalize(image_proj(wide(image).cls))\n  te: "),
        ("shown: ie", "shown: ie\n  other_shown: other"),
    )
    problem = only(text)
    assert problem.message == "width 48 of wide(image).cls against width 64 of image_proj.x"
    ((what, place),) = problem.related
    assert what == "64 follows from width 64 of v.cls here"
    assert place.line == 16


def test_the_context_of_a_decoder(only: Only) -> None:
    text = edited(
        DECODING,
        ("  text_proj:", "  wide: {use: vit, width: 48, depth: 1, heads: 4, patch: 16}\n  text_proj:"),
        ("  lg:", "  more: head(dec(caption, context=wide(image)))\n  lg:"),
        ("  lm:", "  m: {use: next_token, logits: more}\n  lm:"),
    )
    assert only(text).message == "width 64 of v against context_width 48 of dec.context"


def test_values_of_one_call_must_agree(messages: Messages) -> None:
    actual = messages(
        edited(SMALL, ("text_proj:  {use: projection, out: 32}", "text_proj:  {use: projection, out: 48}"))
    )
    assert actual == [("child.yaml:17:20 gathered(te)", "width 48 of gathered(te) against width 32 of ie")]


def test_a_clash_silences_what_reads_it(messages: Messages) -> None:
    """VLMo with a narrower patch embedding: four towers would not fit, and one line says so."""
    (problem,) = problems("vlmo", "components.patches_of.width=384")
    assert problem.message == "width 384 of patches against width 768 of words"


def test_contexts_are_counted_where_something_reads_them() -> None:
    """The unread `joint` of ALBEF has one context; the task that reads another version of it has two."""
    assert checked("albef", "tasks/nlvr2_one_pass").components["fusion"].config.contexts == 2
    (problem,) = problems(
        "albef", "+graph.two=matched(v=[v, v])", "+outputs.two_of=two"
    )  # here `joint` is read, with one
    assert "values in v against contexts" in problem.message
    assert problem.hints == ("in two = matched(v=[v, v])",)


def test_a_size_that_follows_from_nothing_must_be_written(only: Only) -> None:
    text = edited(DECODING, ("dec(caption, context=v)", "dec(caption)"))
    problem = only(text)
    assert problem.message == "`width` of `dec` follows from nothing here"
    assert problem.hints == ("write it: `components.dec.width`",)


def test_scores_are_as_many_as_the_tokenizer_has_words(only: Only) -> None:
    text = edited(
        DECODING,
        ("head: {use: lm_head}", "head: {use: linear_head, classes: 7}"),
    )
    assert only(text).message == "classes 7 of lg against vocab_size 100 of caption"


# --- settings that do not go together -----------------------------------------------------------------------------


def test_a_patch_that_does_not_divide_the_image_points_at_the_later_value(only: Only) -> None:
    problem = only("extends: albef\ncomponents:\n  vision: {patch: 15}\n")
    assert problem.message == "`vision`: patch 15 does not divide size 256"
    assert problem.hints == ("patch: 16",)
    assert problem.span is not None
    assert problem.span.line == 3
    ((what, place),) = problem.related
    assert what == "size 256 comes from here"
    assert (place.file.endswith("albef.yaml"), place.line) == (True, 6)


def test_the_later_value_may_be_the_images_size() -> None:
    (problem,) = problems("albef", "inputs.image.size=250")
    assert problem.message == "`vision`: patch 16 does not divide size 250"
    assert problem.span is not None
    assert problem.span.file == "command line"
    ((what, place),) = problem.related
    assert what == "patch 16 is written here"
    assert place.file.endswith("albef.yaml")


def test_a_default_that_clashes_is_said_to_be_one(only: Only) -> None:
    problem = only(edited(SMALL, ("text:       {use: bert_encoder, width: 64, depth: 1, heads: 4}",
                                  "text:       {use: bert_encoder, width: 64, depth: 1}")))  # fmt: skip
    assert problem.message == "`text`: heads 12 does not divide width 64"
    assert problem.related == (("heads 12 is the default of bert_encoder", problem.related[0][1]),)
