"""Results that annotations declare: parts, patches, scores on a text, and what is the same as a port."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import AsPart, Like, OnText, Patches, Pattern, Port, When
from compose_vlp.graph.signature import refusing, signature
from compose_vlp.graph.types import (
    EmbeddingType,
    Flow,
    ImageType,
    IndexType,
    LogitsType,
    MaskType,
    Part,
    RowSpace,
    SequenceType,
    SimilarityType,
    TextType,
    ValueType,
)

CAPTION = TextType(
    reads={"caption": Flow.EACH}, length=9, vocab_size=30, root="caption", origins=frozenset({"caption"})
)
IMAGE = ImageType(reads={"image": Flow.EACH}, size=32, root="image", origins=frozenset({"image"}))
WORDS = SequenceType(reads={"caption": Flow.EACH}, width=4, parts=(Part("language", 9, "first", CAPTION),))


def result(returns: Pattern, port: Port, value: Any, *, facts: Any = None, **settings: Any) -> Any:
    output = signature({port.name: port}, returns, None, (lambda _: facts) if facts is not None else None)
    return output(SimpleNamespace(**settings), {port.name: value})


def takes(kind: str, dims: str, flow: Flow = Flow.ALL) -> Port:
    return Port("x", (Pattern(kind, tuple(dims.split())),), flow=flow)


def test_positions_of_a_text_are_a_part_with_a_name_and_a_cls() -> None:
    returns = Pattern("Sequence", ("rows", "length", "width"), (AsPart("language", cls="place"),))
    port = takes("Text", "rows length vocab_size", Flow.PAST)
    (part,) = result(returns, port, CAPTION, width=4, place="last").parts
    assert part == Part("language", 9, "last", CAPTION, {"caption": Flow.PAST})


@pytest.mark.parametrize(("cls", "length"), [("first", 17), ("none", 16)])
def test_patches_lie_on_a_grid_of_their_sides_and_a_cls_is_one_position_more(cls: str, length: int) -> None:
    marks = (AsPart("vision", cls="cls"), Patches("size / patch"))
    returns = Pattern("Sequence", ("rows", "tokens", "width"), marks)
    value = result(returns, takes("Image", "rows size"), IMAGE, width=4, size=32, patch=8, cls=cls)
    assert (value.parts[0].length, value.parts[0].grid, value.parts[0].cls, value.width) == (length, (4, 4), cls, 4)


def test_a_grid_of_unknown_size_is_unknown() -> None:
    returns = Pattern("Sequence", ("rows", "tokens", "width"), (AsPart("vision"), Patches("size / patch")))
    value = result(returns, takes("Image", "rows size"), replace(IMAGE, size=None), width=4, size=None, patch=8)
    assert (value.parts[0].length, value.parts[0].grid) == (None, None)


def test_what_only_a_library_knows_stands_for_settings() -> None:
    returns = Pattern("Sequence", ("rows", "tokens", "width"), (AsPart("vision", cls="cls"), Patches("grid")))
    facts = {"width": 6, "tokens": 5, "grid": (2, 2), "cls": "first"}
    value = result(returns, takes("Image", "rows size"), IMAGE, facts=facts)
    assert (value.width, value.parts[0].length, value.parts[0].grid, value.parts[0].cls) == (6, 5, (2, 2), "first")


def test_a_mask_of_patches_says_how_they_lie() -> None:
    value = result(Pattern("Mask", ("rows", "patches"), (Patches("size / patch"),)), takes("Image", "rows size"), IMAGE,
                   size=32, patch=16)  # fmt: skip
    assert isinstance(value, MaskType)
    assert (value.count.most, value.count.grid) == (4, (2, 2))


def test_of_several_sizes_the_first_known_one_counts() -> None:
    returns = Pattern("Embedding", ("rows", "out|width"))
    port = takes("Embedding", "rows width")
    assert result(returns, port, EmbeddingType(width=4), out=None).width == 4
    assert result(returns, port, EmbeddingType(width=4), out=8).width == 8


def test_scores_stand_on_the_words_of_the_one_text() -> None:
    returns = Pattern("Logits", ("rows", "tokens", "classes"), (OnText(),))
    port = Port("x", (Pattern("Embedding", ("rows", "width")), Pattern("Sequence", ("rows", "tokens", "width"))))
    on_text = result(returns, port, WORDS, classes=3)
    assert isinstance(on_text, LogitsType) and on_text.text == CAPTION
    assert not result(returns, port, EmbeddingType(width=4), classes=3).over_positions
    with pytest.raises(UserError, match="positions of one text; here are 0"):
        result(
            replace(returns, marks=(OnText(required=True),)), port, SequenceType(parts=(Part("vision", 4),)), classes=3
        )


def test_a_result_may_be_what_came_in_with_another_width() -> None:
    returns = Pattern("Value", marks=(Like("x", width="out"),))
    port = Port("x", (Pattern("Embedding", ("rows", "width")), Pattern("Sequence", ("rows", "tokens", "width"))))
    assert result(returns, port, WORDS, out=7) == replace(WORDS, width=7)
    assert str(returns) == "the same as `x`, width `out`"


def test_an_index_points_at_the_columns_without_a_queue() -> None:
    port = takes("Similarity", "any_rows any_columns")
    scores = SimilarityType(RowSpace("main"), columns=RowSpace("other", queue="kept"))
    value = result(Pattern("Index", ("any_rows", "any_columns")), port, scores)
    assert value == IndexType(RowSpace("main"), points_at=RowSpace("other"))


@pytest.mark.parametrize(
    ("when", "value", "given", "refusal"),
    [
        (When(), None, True, None),
        (When(), None, False, "it needs a `context`"),
        (When("look", True), False, True, "`look` is false: set it, or give no `context`"),
        (When("look", True), False, False, None),
        (When("look", True), True, False, None),
        (When("look", True, must=True), True, False, "`look` is true: give it a `context`"),
        (When("look", "optional"), "none", True, "`look` is none: set it to optional, or give no `context`"),
        (When("look", "optional"), "optional", True, None),
    ],
)
def test_ports_that_go_with_a_setting_are_refused_without_it(
    when: When, value: Any, given: bool, refusal: str | None
) -> None:
    port = Port("context", (Pattern("Embedding", ("rows", "width")),), default=None, when=when)

    def output(_: Any, ports: Any) -> ValueType:
        return EmbeddingType()

    call = refusing({"context": port}, output)
    arguments = {"context": EmbeddingType()} if given else {}
    if refusal is None:
        assert call(SimpleNamespace(look=value), arguments) == EmbeddingType()
    else:
        with pytest.raises(UserError) as caught:
            call(SimpleNamespace(look=value), arguments)
        assert str(caught.value) == refusal
